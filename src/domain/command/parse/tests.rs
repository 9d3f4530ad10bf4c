use super::*;

fn words() -> Vocabulary {
    Vocabulary {
        handle: "hireling".into(),
        agents: ["claude", "codex", "copilot", "cursor", "gemini", "opencode", "ours"].map(String::from).to_vec(),
    }
}

fn only(text: &str) -> Command {
    let mut found = parse(text, &words());
    assert_eq!(found.len(), 1, "{text:?} gave {found:?}");
    found.remove(0).expect("a good command")
}

fn fault(text: &str) -> CommandError {
    let mut found = parse(text, &words());
    assert_eq!(found.len(), 1, "{text:?} gave {found:?}");
    found.remove(0).expect_err("a faulty command")
}

#[test]
fn one_word_is_enough() {
    for text in ["/agent", "/AGENT", "   /agent", "@hireling", "@Hireling", "hello\n/agent\n", "/agent\r\n"] {
        let command = only(text);
        assert_eq!((command.verb, command.request.as_str()), (Verb::Work, ""), "{text:?}");
    }
}

#[test]
fn a_command_stands_at_the_start_of_a_line_and_not_in_quotes_or_code() {
    for text in [
        "please /agent fix",
        "    /agent fix",
        "\t/agent fix",
        "/agents",
        "/agent-x",
        "/agent: fix",
        "x/agent",
        "`/agent fix`",
        "```\n/agent fix\n```",
        "~~~\n/agent fix\n~~~",
        "> /agent fix",
        "> quoted\n/agent lazy",
        "<!-- \n/agent fix\n-->",
        "<!-- open\n/agent fix",
        "`a\n/agent fix\nb`",
        "@hireling-x fix",
        "hi @hireling fix",
        "- /agent fix",
        "1. /agent fix",
        "@hirelings fix",
        "````\n```\n/agent fix\n```\n````",
        "/agent\u{200B}",
    ] {
        assert_eq!(parse(text, &words()), [], "{text:?}");
    }
}

#[test]
fn a_quote_followed_by_a_blank_line_does_not_hide_a_command() {
    assert_eq!(only("> what they said\n\n/agent claude fix it").request, "fix it");
    assert_eq!(only("`<!--` is code\n\n/agent fix").request, "fix");
    assert_eq!(only("<details>\n\n/agent fix\n\n</details>").agents, Vec::<String>::new());
}

#[test]
fn agent_verb_options_and_request_are_told_apart() {
    let command = only("/agent Claude,codex --model=opus-4 --timeout 30m --draft fix the\nbutton\n\nplease");
    assert_eq!(command.agents, ["claude", "codex"]);
    assert_eq!(command.options.model.as_deref(), Some("opus-4"));
    assert_eq!(command.options.timeout_s, Some(1800));
    assert_eq!(command.options.draft, Some(true));
    assert_eq!(command.request, "fix the\nbutton\n\nplease");
    assert_eq!(only("/agent anthropic,claude go").agents, ["claude"]);
    assert_eq!(only("/agent openai").agents, ["codex"]);
    for text in ["/agent claude: fix it", "/agent claude, fix it"] {
        assert_eq!((only(text).agents, only(text).request.as_str()), (vec!["claude".to_owned()], "fix it"));
    }
    assert_eq!(only("/agent clause 3 is wrong").request, "clause 3 is wrong");
    assert_eq!(only("/agent : fix").request, ": fix");
    assert_eq!(only("/agent STOP").verb, Verb::Cancel);
    assert_eq!(only("/agent codex review the tests").verb, Verb::Review);
    assert_eq!(only("/agent reviewer should see this").verb, Verb::Work);
    assert_eq!(only("/agent code the thing").request, "code the thing");
    assert_eq!(only("/agent --base 'release/1' -- --not-an-option").request, "--not-an-option");
    assert_eq!(only("/agent fix --this thing").request, "fix --this thing");
}

#[test]
fn several_commands_of_one_comment_come_in_order() {
    let found = parse("intro\n/agent claude first\nmore\n\n@hireling codex second\n/agent help", &words());
    let requests: Vec<_> = found.into_iter().map(|c| c.unwrap().request).collect();
    assert_eq!(requests, ["first\nmore", "second", ""]);
}

#[test]
fn a_fault_is_pointed_at_with_the_nearest_correct_form() {
    let error = fault("/agent claude --modle opus fix this");
    assert_eq!(error.message, "There is no option “--modle”.");
    assert_eq!(error.suggestion.as_deref(), Some("--model"));
    assert_eq!(error.pointer(), "/agent claude --modle opus fix this\n              ^^^^^^^");

    let error = fault("/agent cladue fix this");
    assert_eq!((error.kind, error.suggestion.as_deref()), (CommandErrorKind::UnknownAgent, Some("claude")));
    assert_eq!(error.pointer(), "/agent cladue fix this\n       ^^^^^^");

    let error = fault("/agent claude,nobody fix");
    assert_eq!(error.pointer(), "/agent claude,nobody fix\n              ^^^^^^");
}

#[test]
fn values_are_checked() {
    for (text, message) in [
        ("/agent --timeout soon", "--timeout needs a time such as `90s`, `30m` or `2h`, not “soon”."),
        ("/agent --timeout", "--timeout needs a time such as `90s`, `30m` or `2h`."),
        ("/agent --timeout --draft", "--timeout needs a time such as `90s`, `30m` or `2h`."),
        ("/agent --draft=yes", "--draft takes no value."),
        ("/agent --branch $(id)", "--branch needs the name of the branch to make, not “$(id)”."),
        ("/agent --model= x", "--model needs a model name of the agent, such as `claude-sonnet-4-5`."),
        ("/agent --model '; rm'", "--model needs a model name of the agent, such as `claude-sonnet-4-5`, not “; rm”."),
    ] {
        assert_eq!(fault(text).message, message, "{text}");
    }
}

#[test]
fn a_fault_far_to_the_right_is_still_shown() {
    let error = fault(&format!("/agent --model {} --bogus", "m".repeat(100)));
    let pointer = error.pointer();
    let (line, carets) = pointer.split_once('\n').unwrap();
    let at = carets.find('^').unwrap();
    assert_eq!(line.chars().skip(at).take(7).collect::<String>(), "--bogus");
}

#[test]
fn hostile_texts_are_read_without_panic_and_quickly() {
    for text in [
        "/agent ".repeat(5000),
        "`".repeat(60_000),
        "> ".repeat(30_000),
        "<!--".repeat(10_000),
        format!("/agent {}", "é".repeat(50_000)),
        "[".repeat(60_000),
        "/agent --model 'é".into(),
        "/agent \u{0}".into(),
        format!("{}\n/agent late", "x".repeat(70_000)),
    ] {
        parse(&text, &words());
    }
}
