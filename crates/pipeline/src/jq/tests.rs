use bytes::Bytes;
use kinesink_core::{Position, Record, SequenceNumber, Transformer as _};

use super::*;

fn record(data: &str) -> Record {
    Record {
        shard: "shardId-000000000003".parse().unwrap(),
        position: Position { sequence: "4242".parse::<SequenceNumber>().unwrap(), sub_sequence: 5 },
        arrival: "2013-01-01T05:00:00.25Z".parse().unwrap(),
        partition_key: Some("k".into()),
        data: Bytes::copy_from_slice(data.as_bytes()),
    }
}

fn run(program: &str, data: &str) -> Result<Vec<String>, Reject> {
    let jq = Jq::new(program, Needs::default()).unwrap();
    let mut models = Vec::new();
    jq.to_model(&record(data), &mut models)?;
    Ok(models.into_iter().map(|event| String::from_utf8(event.data.to_vec()).unwrap()).collect())
}

#[test]
fn none_one_and_several_outputs_keep_order_keys_and_numbers() {
    assert_eq!(run(".[]", "[1,2,3]").unwrap(), ["1", "2", "3"]);
    assert_eq!(run("empty", "{}").unwrap(), [""; 0]);
    assert_eq!(run(". + {c: 1}", r#"{"z":1,"a":2}"#).unwrap(), [r#"{"z":1,"a":2,"c":1}"#]);
    let exact = r#"{"big":12345678901234567890123,"dec":1.10,"text":"é\n\"\u0001"}"#;
    assert_eq!(run(".", exact).unwrap(), [exact]);
}

#[test]
fn the_record_is_visible_and_now_is_its_arrival() {
    let program = "[$shard, $sequence, $sub_sequence, $arrival, $partition_key, now]";
    let expected = r#"["shardId-000000000003","4242",5,"2013-01-01T05:00:00.25Z","k",1357016400.25]"#;
    assert_eq!(run(program, "{}").unwrap(), [expected]);
}

#[test]
fn what_looks_beyond_the_record_is_refused_by_name() {
    for name in ["env", "input", "inputs", "localtime", "mktime", "halt", "debug", "stderr", "halt_error", "$ENV"] {
        let error = Jq::new(name, Needs::default()).unwrap_err().to_string();
        assert!(error.contains(&format!("`{name}` is refused")), "{name}: {error}");
    }
    let error = Jq::new("import \"a\" as a; .", Needs::default()).unwrap_err().to_string();
    assert!(error.contains("modules are refused"), "{error}");
}

#[test]
fn a_mistake_in_the_program_is_placed() {
    for (program, said) in [
        (". +", "at its end"),
        (".a | )", "at character 6"),
        ("nothing_like_it", "no filter `nothing_like_it"),
        ("$x", "$shard"),
    ] {
        let error = Jq::new(program, Needs::default()).unwrap_err().to_string();
        assert!(error.contains(said), "{program}: {error}");
    }
}

#[test]
fn a_record_that_is_not_json_or_fails_is_rejected_without_its_data() {
    for (program, data) in [(".", "secret"), (".a.b", r#"{"a":"secret"}"#), ("error(.)", "\"secret\"")] {
        let reason = run(program, data).unwrap_err().to_string();
        assert!(!reason.contains("secret"), "{program}: {reason}");
    }
    let endless = run("repeat(.)", "1").unwrap_err().to_string();
    assert!(endless.contains("too many outputs"), "{endless}");
}

#[test]
fn a_compiled_program_runs_on_several_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&Jq::new(".", Needs::default()).unwrap());
}

#[test]
fn a_definition_that_calls_itself_is_refused_before_it_can_overflow_the_stack() {
    for (program, name) in [
        ("def f: [f]; f", "f"),
        ("def f: if .n==0 then 0 else (1+({n:(.n-1)}|f)) end; {r:f}", "f"),
        ("def f: \"\\(f)\"; f", "f"),
        ("def f: def g: f; g; f", "f"),
        ("def f: def g: 1; g | f; f", "f"),
        ("def f(g; $n): [g | f(def h: 1; h; 2)]; f(.; 1)", "f"),
        ("[.[] | def down: {a: down}; down]", "down"),
        ("\"\\(def f: f; f)\"", "f"),
        ("def a: 1; def b: def c: (c); c; a | b", "c"),
        ("def f: {(f): 1}; f", "f"),
        ("def @f: @f \"x\"; @f", "@f"),
    ] {
        let error = Jq::new(program, Needs::default()).unwrap_err().to_string();
        assert!(error.contains(&format!("`{name}` calls itself")), "{program}: {error}");
    }
}

#[test]
fn a_definition_that_only_looks_as_if_it_called_itself_is_kept() {
    for (program, output) in [
        ("def a: .a; {b: a}", r#"{"b":1}"#),
        ("def a: {a: 2, c: .a}; a", r#"{"a":2,"c":1}"#),
        ("def a: {a}; a", r#"{"a":1}"#),
        ("def a: \"a \\(.a)\"; a", r#""a 1""#),
        ("def a: .a; def b: a; [a, b]", "[1,1]"),
        ("def plus($n): .a + $n; def plus: plus(1); plus", "2"),
        ("def twice(f): f | f; .a | twice(twice(. + 1))", "5"),
        ("def a: def b: .a; b; a", "1"),
    ] {
        assert_eq!(run(program, r#"{"a":1}"#).unwrap(), [output], "{program}");
    }
}

/// On the stack of a worker thread: an overflow would end the test's process, as it would end ours.
#[test]
fn what_the_library_repeats_does_not_overflow_the_stack() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_stack_size(2 * 1024 * 1024).build();
    let outputs = |program: &'static str| async move { run(program, "0").map_err(|reject| reject.to_string()) };
    let mut tasks = tokio::task::JoinSet::new();
    let runtime = runtime.unwrap();
    for program in [
        "[limit(200000; recurse(. + 1))] | length",
        "[limit(200000; recurse(. + 1; . >= 0))] | length",
        "[limit(200000; repeat(1))] | length",
        "last(limit(200000; repeat(1))) + 199999",
        "until(. == 200000; . + 1)",
        "[while(. < 200000; . + 1)] | length",
        "[limit(200000; path(repeat(.)))] | length",
    ] {
        tasks.spawn_on(
            async move { assert_eq!(outputs(program).await.unwrap(), ["200000"], "{program}") },
            runtime.handle(),
        );
    }
    for program in [
        "repeat(.) |= 1",
        "recurse(.a) |= .",
        "recurse(.a; true) |= .",
        "until(false; .) |= 1",
        "while(true; .) |= 1",
        "limit(3; repeat(.)) |= 1",
    ] {
        tasks.spawn_on(async move { drop(outputs(program).await.unwrap_err()) }, runtime.handle());
    }
    runtime.block_on(tasks.join_all());
    assert_eq!(run("recurse |= (numbers |= . + 1)", "[1,[2]]").unwrap(), ["[2,[3]]"]);
    assert_eq!(run("[recurse(.[]?)] | length", "[1,[2]]").unwrap(), ["4"]);
}

#[test]
fn text_that_nests_deep_does_not_overflow_the_stack() {
    let deep = |open: &str| format!("\"{}\"", open.repeat(200_000));
    let tricky = format!("\"# \\\"\\n{}\"", "[".repeat(200_000));
    for program in ["fromjson", "tonumber", "[.] | map(fromjson)"] {
        for data in [deep("["), deep("{\\\"a\\\":"), tricky.clone()] {
            assert!(run(program, &data).unwrap_err().to_string().contains("failed"), "{program}");
        }
    }
    let balanced = format!("\"{}{}\"", "[".repeat(200_000), "]".repeat(200_000));
    assert!(run("fromjson", &balanced).is_err());
    let many = format!("[{}[]]", "{},".repeat(1000));
    let text = serde_json::to_string(&many).unwrap();
    assert_eq!(run("fromjson | length", &text).unwrap(), ["1001"]);
    assert_eq!(run("[fromjson]", "\"1 [2]\"").unwrap(), ["[1,[2]]"]);
    assert_eq!(run("[tonumber, fromjson]", "\"12\"").unwrap(), ["[12,12]"]);
}

#[test]
fn a_program_that_nests_or_goes_on_for_long_is_refused_or_runs_without_overflowing_the_stack() {
    let repeated = |part: &str, bytes: usize| part.repeat(bytes / part.len());
    let nested = |open: &str, close: &str| format!("{}.{}", open.repeat(20_000), close.repeat(20_000));
    for program in
        [nested("(", ")"), nested("[", "]"), nested("{a:", "}"), nested("\"\\(", ")\""), repeated(". |", 18_000)]
    {
        let error = Jq::new(&program, Needs::default()).unwrap_err().to_string();
        assert!(error.contains("deeper than 100") || error.contains("at most 16384"), "{error}");
    }
    let run_long = || {
        for (part, end) in [
            (".|", "."),
            ("try ", "."),
            (".+", "."),
            (".//", "."),
            (".,", "."),
            (". as $x|", "."),
            ("def a:.;", "."),
            (".[]?", ""),
            ("if . then . else ", "."),
            ("reduce . as $x(.;.)|", "."),
            ("label $x|", "."),
            (".a=", "."),
        ] {
            let start = if end.is_empty() { "." } else { "" };
            let closing = if part.starts_with("if") { " end" } else { "" };
            let times = 16_000 / (part.len() + closing.len());
            let program = format!("{start}{}{end}{}", part.repeat(times), closing.repeat(times));
            let _ends = run(&program, "{}");
        }
    };
    std::thread::Builder::new().stack_size(JQ_STACK_BYTES).spawn(run_long).unwrap().join().unwrap();
}

#[test]
fn an_output_that_nests_deep_is_rejected() {
    let deep = || {
        let rejected = run("reduce range(50000) as $i (.; [.])", "1").unwrap_err().to_string();
        assert!(rejected.contains("deeper than 127"), "{rejected}");
    };
    std::thread::Builder::new().stack_size(JQ_STACK_BYTES).spawn(deep).unwrap().join().unwrap();
    assert!(run("reduce range(127) as $i (.; [.])", "1").is_ok());
    assert!(run("reduce range(128) as $i (.; {a: .})", "1").unwrap_err().to_string().contains("deeper than 127"));
}

#[test]
fn a_loop_that_does_not_end_is_rejected_after_so_many_steps() {
    for program in [
        "until(false; .)",
        "last(repeat(.))",
        "last(range(1e18))",
        "[[0, 1] | combinations(64)] | length",
        "until(false; try until(false; .) catch .)",
    ] {
        let reason = run(program, "1").unwrap_err().to_string();
        assert!(reason.contains("more than 1000000 steps"), "{program}: {reason}");
    }
    assert_eq!(run("[range(1000000)] | length", "1").unwrap(), ["1000000"]);
    assert_eq!(run("[range(0, 1; 3, 4)], [range(0; 10; 3)]", "1").unwrap(), ["[0,1,2,0,1,2,3,1,2,1,2,3]", "[0,3,6,9]"]);
    assert_eq!(run("[[[1, 2], [3, 4]] | combinations]", "1").unwrap(), ["[[1,3],[1,4],[2,3],[2,4]]"]);
    assert_eq!(run("[[0, 1] | combinations(2)] | length", "1").unwrap(), ["4"]);
}
