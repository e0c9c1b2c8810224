use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

/// A set of networks, IPv4 ones in whatever form. An address is looked for in steps that halve the set, however large. Clones
/// share it.
///
/// # Examples
///
/// ```
/// use gw_core::key::{IpNet, Networks};
///
/// let private: IpNet = "::ffff:10.0.0.0/104".parse()?;
/// let networks = Networks::new([private]);
/// assert!(networks.contains([10, 1, 2, 3].into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    /// Disjoint and in order. Absent if there are none: an empty list cannot be shared in a `const`.
    disjoint: Option<Arc<[IpNet]>>,
}

impl Networks {
    /// No network.
    pub const fn none() -> Self {
        Self { disjoint: None }
    }

    /// These networks.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let networks: Vec<_> = networks.into_iter().map(canonical).collect();
        let mut disjoint = IpNet::aggregate(&networks);
        disjoint.sort_unstable();
        Self {
            disjoint: (!disjoint.is_empty()).then(|| disjoint.into()),
        }
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.disjoint.is_none()
    }

    /// Whether an address, in any form, is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let Some(networks) = &self.disjoint else {
            return false;
        };
        let address = address.to_canonical();
        // The last one that begins at or before the address is the only one that can hold it.
        let begun = networks.partition_point(|network| network.network() <= address);
        begun
            .checked_sub(1)
            .and_then(|last| networks.get(last))
            .is_some_and(|network| network.contains(&address))
    }
}

/// A network of mapped addresses (within `::ffff:0:0/96`) as the IPv4 network that it is; any other one as it is.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let mapped = v6.addr().to_ipv4_mapped().filter(|_| v6.prefix_len() >= 96);
    let v4 = mapped.and_then(|address| Ipv4Net::new(address, v6.prefix_len() - 96).ok());
    v4.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn clones_share_the_networks() {
        let networks = ["10.0.0.0/8", "2001:db8::/32"].map(|text| text.parse().unwrap());
        let networks = Networks::new(networks);
        let (kept, clone) = (networks.disjoint.clone(), networks.clone());
        assert!(Arc::ptr_eq(&kept.unwrap(), &clone.disjoint.unwrap()));
        assert!(!networks.is_empty());
        assert!(Networks::new([]).is_empty());
        assert_eq!(Networks::new([]), Networks::none());
    }

    proptest! {
        /// The steps that halve the list find what a walk over it finds. Few bits, so that networks overlap and
        /// addresses meet them.
        #[test]
        fn an_address_is_found_in_any_list(
            list in prop::collection::vec((any::<bool>(), 0..16u8, 24..=32u8), 0..12),
            six: bool,
            last: u8,
        ) {
            let address = |six: bool, last: u8| -> IpAddr {
                if six {
                    IpAddr::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
                } else {
                    IpAddr::from([192, 0, 2, last])
                }
            };
            let networks: Vec<IpNet> = list
                .into_iter()
                .map(|(six, last, bits)| {
                    let bits = if six { bits + 96 } else { bits };
                    IpNet::new(address(six, last << 4), bits).unwrap()
                })
                .collect();
            let asked = address(six, last);
            let walked = networks.iter().any(|network| network.contains(&asked));
            prop_assert_eq!(Networks::new(networks).contains(asked), walked);
        }
    }
}
