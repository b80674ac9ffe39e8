//! BIRD's configuration.

use super::{Prefix, STATIC, Statement};

/// What attracts or swallows a prefix whether a VIP in it is there or not: static routes other than
/// recursive ones, and `stubnet` of OSPF. Files that are included aren't followed.
pub(super) fn statements(text: &str) -> Vec<Statement> {
    let mut found = Vec::new();
    let text = without_comments(text);
    let mut previous = "";
    let mut words = words(&text).peekable();
    while let Some((line, word)) = words.next() {
        let at_start = matches!(previous, "" | ";" | "{" | "}");
        previous = word;
        if !at_start || !matches!(word, "route" | "stubnet") {
            continue;
        }
        let Some(prefix) = words.peek().and_then(|(_, word)| Prefix::parse(word)) else {
            continue;
        };
        let way: Vec<&str> = words
            .by_ref()
            .skip(1)
            .map(|(_, word)| word)
            .take_while(|word| !matches!(*word, ";" | "{"))
            .collect();
        previous = ";";
        if prefix.is_all() || (word == "route" && way.contains(&"recursive")) {
            continue;
        }
        let swallows = way.iter().any(|word| NOWHERE.contains(word));
        found.push(Statement {
            line,
            prefix,
            problem: match (word, swallows) {
                ("stubnet", _) => "is announced by OSPF whether the VIP is there or not",
                (_, true) => SWALLOWED,
                (_, false) => STATIC,
            },
            mend: "remove it; `protocol direct` announces the VIP, and a recursive route a covering \
                   prefix, only while the VIP is there, as in deploy/anycast/bird-bgp.conf",
        });
    }
    found
}

/// Names of ways that lead nowhere.
const NOWHERE: [&str; 4] = ["blackhole", "unreachable", "prohibit", "drop"];

const SWALLOWED: &str = "is a static route to nowhere: while the VIP is withdrawn it attracts packets for it \
                         where it is announced, and swallows them where it is in the kernel";
/// The same lines, with blanks in place of comments.
fn without_comments(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(['#', '"', '/']) {
        let (before, from) = rest.split_at(start);
        result.push_str(before);
        let length = if from.starts_with('#') {
            from.find('\n').unwrap_or(from.len())
        } else if from.starts_with("/*") {
            let length = from.find("*/").map_or(from.len(), |end| end + 2);
            result.extend(from[..length].chars().filter(|letter| *letter == '\n'));
            length
        } else {
            // A name in quotes has no comments in it.
            let length = match from.strip_prefix('"').and_then(|name| name.find('"')) {
                Some(end) => end + 2,
                None => 1,
            };
            result.push_str(&from[..length]);
            length
        };
        rest = &from[length..];
    }
    result + rest
}

/// Words with the numbers of their lines, from 1; braces and semicolons are words of their own.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).flat_map(|(line, text)| {
        text.split_inclusive([';', '{', '}'])
            .flat_map(|part| match part.find([';', '{', '}']) {
                Some(end) => [&part[..end], &part[end..]],
                None => [part, ""],
            })
            .flat_map(str::split_whitespace)
            .map(move |word| (line, word))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        let found = statements(text).into_iter();
        found.map(|statement| statement.line).collect()
    }

    #[test]
    fn static_routes_stay() {
        let text = "protocol static {
    ipv4;
    route 6.6.6.0/24 blackhole;
    # route 6.6.6.6/32 via \"lo\";
    /* route 6.6.6.6/32
       via \"lo\"; */ route 6.6.6.6/32 via \"lo\";
    route 6.6.6.0/24 recursive 6.6.6.6;
    route 0.0.0.0/0 via 10.0.0.1; route 2001:db8:6::/48 reject;
}
protocol ospf { area 0 { stubnet 6.6.6.0/29; stubnet 6.6.8.0/24 { hidden; }; }; }
";
        assert_eq!(lines(text), [3, 6, 8, 10, 10]);
    }

    #[test]
    fn unfinished_files_are_read_to_their_end() {
        for text in [
            "route",
            "route 6.6.6.6/32",
            "/*",
            "\"",
            "stubnet ;",
            "#",
            "{{{;;;",
            "route /32 x;",
        ] {
            let _ = statements(text);
        }
        assert_eq!(lines("route 6.6.6.6/32"), [1]);
    }
}
