//! Rules about single files: how they are named, how long they are, what they say.

use std::path::Path;

use super::Finding;
use super::rules::{Names, Rules, Text};

/// The file's name and its folders' names.
pub(super) fn check_name(file: &str, rules: &Rules) -> Option<Finding> {
    let word = banned_word(file, &rules.names)?;
    Some(Finding::new(file, 1, format!("the name holds \"{word}\": {}", rules.names.instead)))
}

/// What the file says, and how long it is.
pub(super) fn check(file: &str, text: &str, rules: &Rules) -> Vec<Finding> {
    if rules.exempt.iter().any(|exempt| exempt == file) {
        return Vec::new();
    }
    let extension = Path::new(file).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let mut findings = banned_text(file, extension, text, &rules.text);
    if extension == "rs" {
        findings.extend(banned_modules(file, text, &rules.names));
        findings.extend(too_long(file, text, rules.file_lines_max));
    }
    findings
}

fn banned_word<'a>(name: &'a str, names: &Names) -> Option<&'a str> {
    let mut words = name.split(|char: char| !char.is_ascii_alphanumeric());
    words.find(|word| names.banned.iter().any(|banned| banned == word))
}

fn banned_modules(file: &str, text: &str, names: &Names) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(word) = declared_module(line).and_then(|module| banned_word(module, names)) {
            let message = format!("the module's name holds \"{word}\": {}", names.instead);
            findings.push(Finding::new(file, index + 1, message));
        }
    }
    findings
}

/// The name in `mod name;`, `mod name {`, `pub(crate) mod name …`.
fn declared_module(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
    if words.next() != Some("mod") {
        return None;
    }
    words.next().map(|name| name.trim_end_matches([';', '{']))
}

fn banned_text(file: &str, extension: &str, text: &str, banned: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in banned {
        if !rule.extensions.is_empty() && !rule.extensions.iter().any(|wanted| wanted == extension) {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            if let Some(word) = rule.words.iter().find(|word| holds(line, word, rule.any_case)) {
                findings.push(Finding::new(file, index + 1, format!("\"{word}\": {}", rule.instead)));
            }
        }
    }
    findings
}

/// Whether `line` holds `word`, not as a part of a longer word.
fn holds(line: &str, word: &str, any_case: bool) -> bool {
    if any_case {
        return holds(&line.to_ascii_lowercase(), &word.to_ascii_lowercase(), false);
    }
    let is_letter = |char: Option<char>| char.is_some_and(|char| char.is_ascii_alphanumeric());
    line.match_indices(word).any(|(start, found)| {
        let (before, rest) = line.split_at(start);
        let (_, after) = rest.split_at(found.len());
        let continues_left = is_letter(before.chars().next_back()) && is_letter(word.chars().next());
        let continues_right = is_letter(word.chars().next_back()) && is_letter(after.chars().next());
        !continues_left && !continues_right
    })
}

fn too_long(file: &str, text: &str, lines_max: usize) -> Option<Finding> {
    if Path::new(file).file_name().is_some_and(|name| name == "tests.rs") || file.split('/').any(|part| part == "tests")
    {
        return None;
    }
    let lines = lines_without_tests(text);
    let message = format!("{lines} lines without tests, more than {lines_max}: split it by idea");
    (lines > lines_max).then(|| Finding::new(file, lines_max + 1, message))
}

/// Lines before `#[cfg(test)]` … `mod tests {`; all of them where the tests live in a file of their own.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let starts_tests = |(index, line): (usize, &&str)| {
        let mut after = lines.iter().skip(index + 1).skip_while(|line| line.starts_with("#["));
        *line == "#[cfg(test)]" && after.next().is_some_and(|line| line.starts_with("mod tests {"))
    };
    lines.iter().enumerate().position(starts_tests).unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Rules {
        Rules::ours().unwrap()
    }

    #[test]
    fn banned_names_are_found_in_files_folders_and_modules() {
        let rules = ours();
        for word in &rules.names.banned {
            for name in [format!("crates/{word}/src/lib.rs"), format!("src/{word}.rs"), format!("src/test_{word}.rs")] {
                assert!(check_name(&name, &rules).is_some(), "{name}");
            }
            for line in [format!("mod {word};"), format!("    pub(crate) mod {word} {{"), format!("pub mod {word};")] {
                let findings = check("a.rs", &format!("\n{line}\n"), &rules);
                assert_eq!(findings.first().map(|finding| finding.line), Some(2), "{line}");
            }
        }
        assert!(check_name("crates/core/src/utilization.rs", &rules).is_none());
        assert!(check("a.rs", "// a mod util is banned\nlet modern = util;\n", &rules).is_empty());
    }

    #[test]
    fn every_banned_word_is_found_with_its_line_and_what_to_do() {
        let rules = ours();
        for rule in &rules.text {
            let file = rule.extensions.first().map_or("a.md".to_owned(), |extension| format!("a.{extension}"));
            for word in &rule.words {
                let found = check(&file, &format!("fine\nsee {word}.\n"), &rules);
                assert_eq!(found, [Finding::new(&file, 2, format!("\"{word}\": {}", rule.instead))]);
                let other_case = check(&file, &word.to_ascii_lowercase(), &rules);
                assert_eq!(other_case.is_empty(), !rule.any_case && word.to_ascii_lowercase() != *word, "{word}");
            }
        }
    }

    #[test]
    fn a_part_of_a_longer_word_is_not_the_word() {
        assert!(!holds("let xLATERx = 1;", "LATER", false));
        assert!(!holds("xLATER", "LATER", false));
        assert!(!holds("LATERS", "LATER", false));
        assert!(holds("xLATER LATER", "LATER", false));
        assert!(holds("(LATER)", "LATER", false));
        assert!(holds("file:///part/a", "/part/", false));
        assert!(!holds("/apart/", "/part/", false));
    }

    #[test]
    fn rules_of_one_extension_and_exempt_files_leave_others_alone() {
        let rules = ours();
        let rust_only = rules.text.iter().find(|rule| rule.extensions == ["rs"]).unwrap();
        assert!(check("a.md", &rust_only.words.concat(), &rules).is_empty());
        let everywhere = rules.text.iter().find(|rule| rule.extensions.is_empty()).unwrap();
        assert!(check(&rules.exempt[0], &everywhere.words.concat(), &rules).is_empty());
    }

    #[test]
    fn a_long_file_is_found_its_tests_are_not_counted() {
        let rules = ours();
        let code = "line\n".repeat(rules.file_lines_max);
        assert!(check("a.rs", &code, &rules).is_empty());
        let inline = format!("{code}#[cfg(test)]\n#[expect(x)]\nmod tests {{\n{code}}}\n");
        assert!(check("a.rs", &inline, &rules).is_empty(), "inline tests are free");
        let declared = format!("#[cfg(test)]\nmod tests;\n{code}");
        assert_eq!(check("a.rs", &declared, &rules).len(), 1, "tests elsewhere hide no code here");
        let long = format!("{code}line\n");
        assert_eq!(check("a.rs", &long, &rules)[0].line, rules.file_lines_max + 1);
        assert!(check("src/a/tests.rs", &long, &rules).is_empty());
        assert!(check("tests/kills.rs", &long, &rules).is_empty());
        assert_eq!(check("crates/core/src/testkit/mod.rs", &long, &rules).len(), 1, "a testkit is public code");
    }
}
