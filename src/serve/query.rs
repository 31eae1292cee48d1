//! Query strings: every parameter is known, given once and in range, or the answer is a 400 that says which is not.
//!
//! A filter with a slip of the pen that is silently left out would show, or one day cancel, everything.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

use actix_web::{HttpRequest, web};
use chrono::{DateTime, Utc};

use super::problem::Problem;

/// The decoded parameters of a request.
#[derive(Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query of a request. `prefix` allows a family of names besides the known ones, such as `metadata.`.
    pub fn of(request: &HttpRequest, known: &[&str], prefix: Option<&str>) -> Result<Self, Problem> {
        Self::parse(request.query_string(), known, prefix)
    }

    fn parse(text: &str, known: &[&str], prefix: Option<&str>) -> Result<Self, Problem> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(text)
            .map_err(|error| Problem::parameter("query", error))?
            .into_inner();
        for (name, value) in &pairs {
            let in_family = prefix.is_some_and(|prefix| name.len() > prefix.len() && name.starts_with(prefix));
            if !known.contains(&name.as_str()) && !in_family {
                let family = prefix.map(|prefix| format!(", {prefix}<key>")).unwrap_or_default();
                let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
                let known = match known.is_empty() && prefix.is_none() {
                    true => "this path takes no parameters".to_owned(),
                    false => format!("known are {}{family}", known.join(", ")),
                };
                return Err(Problem::parameter(&name, format!("not known here; {known}")));
            }
            if name.contains('\0') || value.contains('\0') {
                return Err(Problem::parameter("query", "U+0000 cannot be in any value: leave it out"));
            }
        }
        Ok(Self(pairs))
    }

    /// The value of a parameter that may be given once.
    pub fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(Problem::parameter(name, "given twice: give it once"));
        }
        Ok(first)
    }

    /// All values of a parameter.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The parameters of a family: what follows the prefix, and the value.
    pub fn family(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_str())))
    }

    /// A parameter that its type reads.
    pub fn parsed<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.one(name)?.map(|text| text.parse().map_err(|error| Problem::parameter(name, error))).transpose()
    }

    /// A whole number within bounds.
    pub fn number<T>(&self, name: &str, bounds: RangeInclusive<T>) -> Result<Option<T>, Problem>
    where
        T: FromStr + PartialOrd + Display,
    {
        let wrong = || Problem::parameter(name, format!("a number from {} to {}", bounds.start(), bounds.end()));
        match self.one(name)? {
            None => Ok(None),
            Some(text) => text.parse().ok().filter(|number| bounds.contains(number)).map(Some).ok_or_else(wrong),
        }
    }

    /// A moment in RFC 3339.
    pub fn time(&self, name: &str) -> Result<Option<DateTime<Utc>>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        // In a query, a plus that was not escaped arrives as a space; no RFC 3339 time has one there.
        DateTime::parse_from_rfc3339(&text.replace(' ', "+"))
            .map(|time| Some(time.to_utc()))
            .map_err(|_| Problem::parameter(name, "a time like 2026-01-31T23:59:59Z"))
    }
}

/// `Link: <…>; rel="next"` (RFC 8288): the same path and query with some parameters in place of those of these names.
pub fn next_link(request: &HttpRequest, instead_of: &[&str], put: &[(&str, &dyn Display)]) -> String {
    let kept = request.query_string().split('&').filter(|pair| {
        let key = pair.split('=').next().unwrap_or_default();
        !pair.is_empty() && !instead_of.contains(&key)
    });
    let put: Vec<String> = put.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let put = put.join("&");
    let query: String = kept.map(|pair| format!("{pair}&")).collect();
    // These three would end the link early; a query may carry them unescaped.
    let query = query.replace('<', "%3C").replace('>', "%3E").replace('"', "%22");
    format!("<{}?{query}{put}>; rel=\"next\"", request.path())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn what_is_not_known_or_not_in_range_is_refused() {
        let query = Query::parse("a=1&m.x=y&b=%201&t=2026-01-01T00:00:00+01:00", &["a", "b", "t"], Some("m.")).unwrap();
        assert_eq!(query.number("a", 1..=5).unwrap(), Some(1));
        assert!(query.number("a", 2..=5).is_err());
        assert!(query.number("b", 1..=5).is_err());
        assert_eq!(query.number("c", 1..=5).unwrap(), None);
        assert_eq!(query.family("m.").collect::<Vec<_>>(), [("x", "y")]);
        assert_eq!(query.time("t").unwrap().unwrap().to_rfc3339(), "2025-12-31T23:00:00+00:00");
        let detail = |known: &[&str]| Query::parse("z=1", known, None).unwrap_err().to_string();
        assert!(detail(&[]).ends_with("this path takes no parameters"), "{}", detail(&[]));
        assert!(detail(&["a", "b"]).ends_with("known are a, b"), "{}", detail(&["a", "b"]));
        for bad in ["z=1", "m.=1", "a=%00"] {
            assert!(Query::parse(bad, &["a"], Some("m.")).is_err(), "{bad}");
        }
        assert!(Query::parse("a=1&a=2", &["a"], None).unwrap().one("a").is_err());
    }

    #[test]
    fn the_next_page_keeps_the_filters() {
        let request = TestRequest::get().uri("/tasks?status=FAILED&skip=3&cursor=old&limit=2").to_http_request();
        assert_eq!(
            next_link(&request, &["skip", "cursor"], &[("cursor", &"new")]),
            r#"</tasks?status=FAILED&limit=2&cursor=new>; rel="next""#
        );
        let request = TestRequest::get().uri("/tasks").to_http_request();
        let both: [(&str, &dyn Display); 2] = [("cursor", &1), ("skip", &2)];
        assert_eq!(next_link(&request, &["cursor"], &both), r#"</tasks?cursor=1&skip=2>; rel="next""#);
    }
}
