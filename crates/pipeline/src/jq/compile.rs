//! From a program's text to a filter, without anything that looks beyond the record.

use jaq_core::compile::{Compiler, Undefined};
use jaq_core::load::{self, Arena, File, Lexer, Loader};
use jaq_core::native::{Fun, bome, run, v};
use jaq_json::Val;

use super::JQ_STACK_BYTES;
use super::recursion::recursive;
use super::steps::{Counted, step};
use crate::Error;
use crate::event::{JSON_DEPTH_MAX, check_json};

/// A compiled program.
pub(super) type Program = jaq_core::compile::Filter<jaq_core::Native<Counted>>;

/// What a program may ask of its record. The last is what `now` gives.
pub(super) const VARIABLES: [&str; 6] =
    ["$shard", "$sequence", "$sub_sequence", "$arrival", "$partition_key", "$__arrival_seconds"];

/// `now` is part of the record here. What calls itself does so without the stack, except as the target of an
/// assignment, where a `label` makes it an error of the record; and takes a step each time.
const PRELUDE: &str = "def now: $__arrival_seconds; \
    def recurse: ..; \
    def recurse(f): label $__ | def rec: ., (f | step | rec); rec; \
    def recurse(f; cond): recurse(f | select(cond)); \
    def repeat(f): label $__ | def rec: f, (step | rec); rec; \
    def while(cond; update): label $__ | def rec: if cond then ., (update | step | rec) else empty end; rec; \
    def until(cond; update): label $__ | def rec: if cond then . else update | step | rec end; rec; \
    def combinations: .[][] |= [.] | reduce .[] as $a ([]; . + $a[] | step); \
    def combinations($n): [limit($n; repeat(.))] | combinations; ";

/// Before the library's, which build on them.
const FIRST: &str = "def range(from; to; by): range_by(from; to; by) | step;";

/// Filters and variables that depend on the machine, the time or other records, or that act on them.
const REFUSED: [&str; 20] = [
    "$ENV",
    "debug",
    "debug_empty",
    "env",
    "get_search_list",
    "halt",
    "halt_error",
    "input",
    "input_filename",
    "input_line_number",
    "inputs",
    "localtime",
    "mktime",
    "now",
    "rand",
    "repl",
    "stderr",
    "stderr_empty",
    "strflocaltime",
    "$__prog_args",
];

/// What reads and runs a program recurses into it.
const PROGRAM_BYTES_MAX: usize = 16 * 1024;
const PROGRAM_DEPTH_MAX: usize = 100;

pub(super) fn compile(program: &str) -> Result<Program, Error> {
    check_size(program)?;
    let compiler = std::thread::Builder::new().name("jq-compiler".into()).stack_size(JQ_STACK_BYTES);
    std::thread::scope(|scope| {
        let compiled = compiler.spawn_scoped(scope, || compile_here(program));
        let compiled = compiled.map_err(|error| Error::Program(format!("no thread to compile it: {error}")))?;
        compiled.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn compile_here(program: &str) -> Result<Program, Error> {
    if ["import", "include"].iter().any(|word| program.trim_start().starts_with(word)) {
        return Err(Error::Program("modules are refused: the whole program must stand in the file".into()));
    }
    // What cannot be read is placed below.
    if let Some(name) = Lexer::new(program).lex().ok().and_then(|tokens| recursive(&tokens)) {
        return Err(Error::Program(format!(
            "`{name}` calls itself, which is refused: its depth would depend on the data, and one record could end the \
             process; use `recurse`, `until`, `while` or `reduce`"
        )));
    }
    let allowed = |name: &str| !REFUSED.contains(&name);
    let defs = |code| load::parse(code, |parser| parser.defs()).unwrap_or_default();
    let (first, fromjson) = (defs(FIRST), defs("def fromjson: shallow | parse_json;"));
    let defs = first.into_iter().chain(jaq_core::defs()).chain(jaq_std::defs()).chain(fromjson).chain(jaq_json::defs());
    let defs = defs.filter(|def| allowed(def.name));
    let funs = jaq_core::funs::<Counted>().chain(jaq_std::funs()).chain(jaq_json::funs());
    let funs = funs.filter(|(name, _, _): &Fun<Counted>| allowed(name));
    let renamed = |name| match name {
        "fromjson" => "parse_json",
        "range" => "range_by",
        other => other,
    };
    let funs = funs.map(|(name, arguments, native)| (renamed(name), arguments, native));
    let funs = funs.chain([shallow(), step()]);

    let code = format!("{PRELUDE}{program}");
    let arena = Arena::default();
    let file = File { code: code.as_str(), path: () };
    let modules = Loader::new(defs).load(&arena, file).map_err(|errors| {
        let why = errors.into_iter().next().map(|(_, error)| unreadable(&code, error));
        Error::Program(why.unwrap_or_else(|| "it cannot be read".into()))
    })?;
    let compiler = Compiler::default().with_funs(funs).with_global_vars(VARIABLES);
    compiler.compile(modules).map_err(|errors| {
        let first = errors.into_iter().flat_map(|(_, errors)| errors).next();
        Error::Program(first.map_or_else(|| "it cannot be compiled".into(), |(name, what)| undefined(name, &what)))
    })
}

fn check_size(program: &str) -> Result<(), Error> {
    if program.len() > PROGRAM_BYTES_MAX {
        let bytes = program.len();
        return Err(Error::Program(format!("it has {bytes} bytes; write at most {PROGRAM_BYTES_MAX}")));
    }
    // Brackets in text count as well: nobody writes so many.
    let mut depth = 0_usize;
    for byte in program.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > PROGRAM_DEPTH_MAX {
            let why = format!("it nests brackets deeper than {PROGRAM_DEPTH_MAX} levels; name parts of it with `def`");
            return Err(Error::Program(why));
        }
    }
    Ok(())
}

/// Passes text on that does not nest too deep for what reads and drops it, which recurses. `fromjson` reads more than
/// JSON, so that only in JSON proper can brackets be told from text.
fn shallow() -> Fun<Counted> {
    run(("shallow", v(0), |(_, value)| {
        let brackets = |text: &[u8]| text.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
        bome(match &value {
            Val::TStr(text) if brackets(text) > JSON_DEPTH_MAX && check_json(text).is_err() => {
                Err(jaq_core::Error::str("text that is no JSON, or nested too deep"))
            }
            _ => Ok(value),
        })
    }))
}

fn unreadable(code: &str, error: load::Error<&str>) -> String {
    let place = |part: &str| {
        let start = load::span(code, part).start.saturating_sub(PRELUDE.len());
        if part.is_empty() { "at its end".to_owned() } else { format!("at character {}", start + 1) }
    };
    match error {
        load::Error::Io(_) => "it asks for another file".into(),
        load::Error::Lex(errors) => {
            let first = errors.into_iter().next();
            first
                .map_or_else(String::new, |(expected, part)| format!("{}: expected {}", place(part), expected.as_str()))
        }
        load::Error::Parse(errors) => {
            let first = errors.into_iter().next();
            first
                .map_or_else(String::new, |(expected, part)| format!("{}: expected {}", place(part), expected.as_str()))
        }
    }
}

fn undefined(name: &str, what: &Undefined) -> String {
    if REFUSED.contains(&name) {
        return format!(
            "`{name}` is refused: a program sees its record and nothing else, so that a replay is the same"
        );
    }
    let hint = if name.starts_with('$') {
        "; there are $shard, $sequence, $sub_sequence, $arrival, $partition_key"
    } else {
        ""
    };
    format!("there is no {} `{name}`{hint}", what.as_str())
}
