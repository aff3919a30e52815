//! Markup from values. Text is escaped unless its type says that it is markup already, so that no page can forget to.

use std::fmt;

use karat_report::markup;

/// Markup: written in this crate, rendered by `karat_report`, or made from text that was escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Html(String);

impl Html {
    /// Markup that this crate or `karat_report` wrote. Text goes through [`html!`].
    pub(crate) const fn written(markup: String) -> Self {
        Self(markup)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

/// What may stand in a page.
pub(crate) trait Show {
    /// Writes it, escaped for text and for attributes between double quotes.
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

impl Show for Html {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Show for str {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&markup(self))
    }
}

impl Show for String {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().show(f)
    }
}

impl<T: Show + ?Sized> Show for &T {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).show(f)
    }
}

impl<T: Show> Show for Option<T> {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().map_or(Ok(()), |it| it.show(f))
    }
}

impl<T: Show> Show for [T] {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|it| it.show(f))
    }
}

impl<T: Show> Show for Vec<T> {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().show(f)
    }
}

macro_rules! show_plain {
    ($($plain:ty)*) => {
        $(impl Show for $plain {
            fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        })*
    };
}
// Digits and a sign.
show_plain!(i64 u16 u32 u64 usize);

/// [`Show`] for `format!`.
pub(crate) struct Shown<'a, T: ?Sized>(pub(crate) &'a T);

impl<T: Show + ?Sized> fmt::Display for Shown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show(f)
    }
}

/// `format!` for markup: every argument is escaped for what it is. `concat!` keeps names out of the literal (`{name}`
/// does not compile), because those would go around [`Show`].
macro_rules! html {
    ($form:literal $(, $value:expr)* $(,)?) => {
        $crate::html::Html::written(format!(concat!($form) $(, $crate::html::Shown(&$value))*))
    };
}
pub(crate) use html;

#[cfg(test)]
mod tests {
    use super::Html;

    #[test]
    fn text_is_escaped_and_markup_is_not() {
        let name = "<script>\"x\"</script>";
        let inner = html!("<b>{}</b>", name);
        assert_eq!(
            html!("<p title=\"{}\">{} {}</p>", name, inner, 3_u32).into_string(),
            "<p title=\"&lt;script&gt;&quot;x&quot;&lt;/script&gt;\">\
             <b>&lt;script&gt;&quot;x&quot;&lt;/script&gt;</b> 3</p>"
        );
        assert_eq!(html!("{}{}", None::<Html>, vec!["&", "x"]).into_string(), "&amp;x");
    }
}
