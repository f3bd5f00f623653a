//! Programs that are not ours: looked for, installed where that is allowed, or named.

use std::path::Path;
use std::process::{Command, Stdio};

use super::table::Program;

/// Finds the program, or installs it as root; otherwise says how to get it.
pub(super) fn program(program: &Program) -> Result<(), String> {
    if succeeds(&program.check) || (is_root() && apt_get(&program.apt) && succeeds(&program.check)) {
        return Ok(());
    }
    let name = program.check.first().map_or("a program", String::as_str);
    Err(format!("{name}: apt-get install {}", program.apt.join(" ")))
}

/// Makes the Python environment, or brings it up to date with the requirements; otherwise says how.
pub(super) fn python(venv: &Path, requirements: &Path) -> Result<(), String> {
    let wanted = std::fs::read_to_string(requirements)
        .map_err(|error| format!("cannot read {}: {error}", requirements.display()))?;
    // Written last, so that an environment that was interrupted is completed.
    let installed = venv.join("installed.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    let (venv, file) = (venv.display().to_string(), requirements.display().to_string());
    let pip = format!("{venv}/bin/pip");
    let steps = [
        vec!["python3", "-m", "venv", &venv],
        vec![&pip, "install", "--quiet", "--disable-pip-version-check", "--requirement", &file],
    ];
    for step in steps {
        if !succeeds(&step) {
            return Err(format!("it needs a package index; try {}", step.join(" ")));
        }
    }
    std::fs::write(&installed, wanted).map_err(|error| format!("cannot write {}: {error}", installed.display()))
}

/// Compiles the project, with the jars that it needs, into a folder, unless that was done; otherwise says how.
pub(super) fn maven(build: &Path, project: &Path) -> Result<(), String> {
    let mut wanted = String::new();
    read_all(project, &mut wanted).map_err(|error| format!("cannot read {}: {error}", project.display()))?;
    let built = build.join("built.txt");
    if std::fs::read_to_string(&built).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    // A jar that is no longer wanted would stay on the class path.
    match std::fs::remove_dir_all(build) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("cannot empty {}: {error}", build.display()));
        }
        _ => {}
    }
    let pom = project.join("pom.xml").display().to_string();
    let into = format!("-Dbuild={}", build.display());
    let compile = ["mvn", "--batch-mode", "--quiet", "--file", &pom, &into, "compile"];
    if !succeeds(&compile) {
        return Err(format!("it needs a Maven repository; try {}", compile.join(" ")));
    }
    std::fs::write(&built, wanted).map_err(|error| format!("cannot write {}: {error}", built.display()))
}

/// The names and texts of a folder's files, in order of their names.
fn read_all(folder: &Path, texts: &mut String) -> std::io::Result<()> {
    let mut paths = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read_all(&path, texts)?;
        } else {
            texts.push_str(&format!("{}\n{}", path.display(), String::from_utf8_lossy(&std::fs::read(&path)?)));
        }
    }
    Ok(())
}

/// Whether it can be started and exits with 0. Its output is dropped, its errors are shown.
fn succeeds(command: &[impl AsRef<std::ffi::OsStr>]) -> bool {
    let Some((program, arguments)) = command.split_first() else {
        return false;
    };
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn apt_get(packages: &[String]) -> bool {
    let mut install = vec!["apt-get", "install", "--yes", "--no-install-recommends"];
    install.extend(packages.iter().map(String::as_str));
    // The lists of a fresh machine may be empty or old.
    succeeds(&install) || (succeeds(&["apt-get", "update"]) && succeeds(&install))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_there_is_enough() {
        let there = Program { check: vec!["true".to_owned()], apt: Vec::new() };
        assert_eq!(program(&there), Ok(()));
    }

    #[test]
    fn commands_that_fail_or_do_not_exist_do_not_succeed() {
        assert!(succeeds(&["true"]));
        assert!(!succeeds(&["false"]));
        assert!(!succeeds(&["/nowhere/at/all"]));
        assert!(!succeeds(&[] as &[&str]));
    }

    #[test]
    fn an_environment_that_is_up_to_date_is_left_alone() {
        let folder = std::env::temp_dir().join(format!("kinesink-xtask-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let requirements = folder.join("requirements.txt");
        std::fs::write(&requirements, "a==1\n").unwrap();
        std::fs::write(folder.join("installed.txt"), "a==1\n").unwrap();
        assert_eq!(python(&folder, &requirements), Ok(()));
        assert!(!folder.join("bin").exists());
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(python(&folder, &requirements).unwrap_err().contains("requirements.txt"));
    }
    #[test]
    fn a_maven_project_that_is_compiled_is_left_alone_until_a_file_changes() {
        let folder = std::env::temp_dir().join(format!("kinesink-xtask-maven-{}", std::process::id()));
        let (build, source) = (folder.join("build"), folder.join("project/src"));
        std::fs::create_dir_all(&build).unwrap();
        std::fs::create_dir_all(&source).unwrap();
        std::fs::write(source.join("A.java"), "class A {}").unwrap();
        let project = folder.join("project");
        let texts = || {
            let mut texts = String::new();
            read_all(&project, &mut texts).unwrap();
            texts
        };
        let before = texts();
        std::fs::write(build.join("built.txt"), &before).unwrap();
        assert_eq!(maven(&build, &project), Ok(()));
        std::fs::write(source.join("A.java"), "class A { int a; }").unwrap();
        assert_ne!(texts(), before);
        assert!(maven(&build, &folder.join("nothing")).unwrap_err().contains("nothing"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
