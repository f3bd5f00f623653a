//! What a person may have written into a file and nobody else is to read: a report of a mistake shows the lines around it.

/// Keys that hold a secret, wherever they stand.
const SECRET_KEYS: [&str; 6] = ["password", "passwd", "secret", "token", "credential", "access_key"];
/// What carries one in a signed URL.
const SIGNED: [&str; 3] = ["x-amz-signature=", "x-amz-credential=", "x-amz-security-token="];

/// The text with stars for values on the lines of these places, for those of keys that sound like a secret, and for
/// passwords in URLs; as long as before.
pub(super) fn without_secrets(text: &str, places: &[usize]) -> String {
    let mut shown = String::with_capacity(text.len());
    let (mut start, mut is_open) = (0, false);
    for line in text.split_inclusive('\n') {
        let is_marked = places.iter().any(|place| (start..start + line.len()).contains(place));
        start += line.len();
        let value = match line.split_once('=') {
            _ if is_open => line,
            Some((key, value)) if is_marked || is_secret(key) => {
                shown.push_str(key);
                shown.push('=');
                value
            }
            _ => {
                shown.push_str(&without_passwords(line));
                continue;
            }
        };
        is_open ^= ["\"\"\"", "'''"].iter().map(|quotes| value.matches(quotes).count()).sum::<usize>() % 2 == 1;
        shown.extend(value.bytes().map(|byte| if byte.is_ascii_whitespace() { char::from(byte) } else { '*' }));
    }
    shown
}

fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase().replace('-', "_");
    SECRET_KEYS.iter().any(|word| key.contains(word))
}

/// The text with stars for what stands between `://` and `@`, and for the signatures of URLs; as long as before.
pub(super) fn without_passwords(text: &str) -> String {
    let mut stars = vec![false; text.len()];
    let mut cover = |from: usize, bytes: usize| stars.iter_mut().skip(from).take(bytes).for_each(|star| *star = true);
    for (scheme, _) in text.match_indices("://") {
        let from = scheme + 3;
        let host = text.get(from..).unwrap_or_default();
        let end = host.find(|c: char| c.is_whitespace() || "/\"'".contains(c)).unwrap_or(host.len());
        if let Some(at) = host.get(..end).and_then(|host| host.rfind('@')) {
            cover(from, at);
        }
    }
    let lower = text.to_ascii_lowercase();
    for word in SIGNED {
        for (start, _) in lower.match_indices(word) {
            let from = start + word.len();
            let rest = lower.get(from..).unwrap_or_default();
            cover(from, rest.find(|c: char| c.is_whitespace() || "&\"'".contains(c)).unwrap_or(rest.len()));
        }
    }
    let mut shown = String::with_capacity(text.len());
    for (start, character) in text.char_indices() {
        if stars.get(start) == Some(&true) {
            shown.extend(std::iter::repeat_n('*', character.len_utf8()));
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_near_a_mistake_was_shown() {
        for (line, shown) in [
            ("password = 'SECRET'", "password = ********"),
            ("aws-secret-access-key=\"SECRET\" # x", "aws-secret-access-key=******** * *"),
            ("url = \"http://me:SECRET@host/a@b\"", "url = \"http://*********@host/a@b\""),
            ("u = 's3://SECRET@bucket/x', v = 'http://é@h'", "u = 's3://******@bucket/x', v = 'http://**@h'"),
            ("url = 'https://h/?X-Amz-Signature=SECRET&a=b'", "url = 'https://h/?X-Amz-Signature=******&a=b'"),
            ("url = \"http://host/a\" # mail@host", "url = \"http://host/a\" # mail@host"),
        ] {
            assert_eq!(without_secrets(line, &[]), shown);
        }
        let text = "a = 1\ntoken = \"\"\"\nSECRET\n\"\"\"\nb = 2\n";
        assert_eq!(without_secrets(text, &[0]), "a = *\ntoken = ***\n******\n***\nb = 2\n");
    }
}
