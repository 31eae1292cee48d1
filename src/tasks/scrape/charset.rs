//! Charset: the text of a page, from its bytes.
//!
//! In the order of the HTML standard (<https://html.spec.whatwg.org/multipage/parsing.html#determining-the-character-encoding>):
//! a byte order mark, the header, a `<meta>` among the first 1,024 bytes. Where nothing is declared: UTF-8 if the
//! bytes are UTF-8, else windows-1252, as browsers do for the western web.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

/// The standard lets a declaration stand no further from the start.
const PRESCAN_BYTES: usize = 1024;

/// Decodes a page; what cannot be decoded becomes U+FFFD. The name is the encoding's own, such as `UTF-8`.
pub(super) fn decode<'a>(bytes: &'a [u8], content_type: Option<&str>) -> (Cow<'a, str>, &'static str) {
    let declared = content_type.and_then(charset_of_header).or_else(|| charset_of_meta(bytes));
    let encoding = declared.unwrap_or_else(|| if std::str::from_utf8(bytes).is_ok() { UTF_8 } else { WINDOWS_1252 });
    // A byte order mark wins over both.
    let (text, used, _) = encoding.decode(bytes);
    (text, used.name())
}

fn charset_of_header(content_type: &str) -> Option<&'static Encoding> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("charset") {
            return None;
        }
        Encoding::for_label(value.trim().trim_matches(['"', '\'']).as_bytes())
    })
}

fn charset_of_meta(bytes: &[u8]) -> Option<&'static Encoding> {
    // Declarations are ASCII; whatever else is among these bytes only has to keep its place.
    let head: String = bytes.iter().take(PRESCAN_BYTES).map(|byte| char::from(*byte).to_ascii_lowercase()).collect();
    let mut rest = head.as_str();
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = &comment[comment.find("-->")?..];
        } else if let Some(tag) = rest.strip_prefix("meta") {
            let tag = &tag[..tag.find('>').unwrap_or(tag.len())];
            if let Some(encoding) = charset_of_tag(tag) {
                return Some(encoding);
            }
        }
    }
    None
}

fn charset_of_tag(mut tag: &str) -> Option<&'static Encoding> {
    while let Some(start) = tag.find("charset") {
        tag = &tag[start + "charset".len()..];
        let Some(value) = tag.trim_start().strip_prefix('=') else { continue };
        let value = value.trim_start().trim_start_matches(['"', '\'']);
        let ends = |c: char| c.is_ascii_whitespace() || matches!(c, '"' | '\'' | ';' | '/');
        let label = value.split(ends).next().unwrap_or_default();
        let encoding = Encoding::for_label(label.as_bytes())?;
        // This very text was read as ASCII, so it cannot be UTF-16: the standard says UTF-8.
        return Some(encoding.output_encoding());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declaration_that_counts_is_found() {
        let cases: [(&[u8], Option<&str>, &str, &str); 11] = [
            (b"caf\xe9", Some("text/html; charset=ISO-8859-1"), "café", "windows-1252"),
            (b"caf\xc3\xa9", Some("text/html; Charset=\"utf-8\""), "café", "UTF-8"),
            (b"\xef\xbb\xbfcaf\xc3\xa9", Some("text/html; charset=iso-8859-1"), "café", "UTF-8"),
            (b"\xff\xfea\0b\0", None, "ab", "UTF-16LE"),
            (b"<meta charset=windows-1251>\xcf\xf0", None, "<meta charset=windows-1251>Пр", "windows-1251"),
            (
                b"<META http-equiv=Content-Type content='text/html; charset=shift_jis'>\x83e",
                Some("text/html"),
                "<META http-equiv=Content-Type content='text/html; charset=shift_jis'>テ",
                "Shift_JIS",
            ),
            (b"<!-- <meta charset=koi8-r> -->\xc3\xa9", None, "<!-- <meta charset=koi8-r> -->é", "UTF-8"),
            (b"<meta charset=utf-16>\xc3\xa9", None, "<meta charset=utf-16>é", "UTF-8"),
            (b"\xc3\xa9", None, "é", "UTF-8"),
            (b"\xe9 ", Some("text/html; charset=nonsense"), "é ", "windows-1252"),
            (b"", None, "", "UTF-8"),
        ];
        for (bytes, header, text, name) in cases {
            assert_eq!(decode(bytes, header), (text.into(), name), "{bytes:?} {header:?}");
        }
    }
}
