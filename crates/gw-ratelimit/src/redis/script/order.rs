use ::redis::Cmd;

use super::terms::Terms;
use super::{Place, write_time};
use crate::algorithm::Algorithm;
use crate::redis::receipt::Receipt;

/// What is to become of one key after the decision.
#[derive(Debug, Clone, Copy)]
pub(in crate::redis) struct Order {
    pub(in crate::redis) place: Place,
    pub(in crate::redis) algorithm: Algorithm,
    pub(in crate::redis) cells: u32,
    pub(in crate::redis) task: Task,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::redis) enum Task {
    /// Charges what fits into two bursts.
    Charge,
    /// Takes back cells of this charge.
    Refund(Receipt),
    /// Takes off debt, whatever it was charged for.
    Give,
}

impl Order {
    pub(super) fn write(&self, call: &mut Cmd) {
        let terms = Terms::of(&self.algorithm);
        terms.write(call);
        let name = match self.task {
            Task::Charge => "charge",
            Task::Refund(_) => "refund",
            Task::Give => "give",
        };
        call.arg(name).arg(self.cells);
        let Task::Refund(receipt) = self.task else {
            call.arg(0).arg(0).arg(0).arg(0);
            return;
        };
        call.arg(receipt.born);
        match self.algorithm {
            Algorithm::Gcra(_) => {
                let mut after = String::new();
                write_time(receipt.after, &mut after);
                call.arg(after);
            }
            Algorithm::Window(_) => {
                call.arg(receipt.after);
            }
        }
        call.arg(receipt.refunded).arg(receipt.stood_on);
    }
}
