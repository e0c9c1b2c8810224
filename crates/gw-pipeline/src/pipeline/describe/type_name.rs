use std::fmt;

/// A type's name, as the compiler tells it. Displayed without path and parameters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TypeName(pub(super) &'static str);

impl TypeName {
    pub(super) fn of<T: ?Sized>() -> Self {
        Self(std::any::type_name::<T>())
    }

    /// Without path and parameters. A tuple's name, and others that do not begin with a path, are left whole.
    pub(super) fn short(self) -> &'static str {
        let path = self.0.split('<').next().unwrap_or_default();
        if path.starts_with(|first: char| first.is_alphabetic() || first == '_') {
            path.rsplit("::").next().unwrap_or_default()
        } else {
            self.0
        }
    }
}

impl fmt::Debug for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_have_neither_path_nor_parameters() {
        for (full, short) in [
            ("tower_layer::Identity", "Identity"),
            ("a::b::Limit<c::Key<d::E>, f::G>", "Limit"),
            ("Limit", "Limit"),
            ("a::main::{{closure}}", "{{closure}}"),
            ("(a::B, c::D)", "(a::B, c::D)"),
            ("&a::B", "&a::B"),
            ("<a::B as c::D>::E", "<a::B as c::D>::E"),
            ("", ""),
        ] {
            assert_eq!(TypeName(full).short(), short);
        }
    }
}
