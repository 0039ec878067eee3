//! Texts that pose as instructions to a model or as parts of its conversation. Answers for naming them and for making the
//! control tokens of chat templates inert; never removes a sentence and never decides what is allowed.

use std::{ops::Range, sync::LazyLock};

use regex::bytes::Regex;

use super::sweep::{Anchor, Hit};

/// Marks of one sort.
pub(super) struct Family {
    /// The name of the sort in flags.
    pub(super) name: &'static str,
    /// What each begins with, in any case.
    pub(super) anchors: &'static [&'static str],
    /// The whole mark, from its anchor on.
    pattern: &'static str,
    place: Place,
}

/// Where a mark counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Everywhere. It is a token that some chat template gives a meaning: its first sign is exchanged.
    Token,
    /// Not inside a word.
    Word,
    /// At the start of a line that follows an empty one, or of the text.
    Paragraph,
}
use Place::{Paragraph, Token, Word};

const fn family(name: &'static str, place: Place, anchors: &'static [&'static str], pattern: &'static str) -> Family {
    Family { name, anchors, pattern, place }
}

/// Every family. `~` stands for what may stand between two words.
pub(super) const FAMILIES: &[Family] = &[
    family("chat-template", Token, &["<|", "<｜"], r"<\|[a-z][a-z0-9_]{1,30}\|>|<｜[^<>\n]{2,60}｜>"),
    family(
        "chat-template",
        Token,
        &[
            "[INST]",
            "[/INST]",
            "<<SYS>>",
            "<</SYS>>",
            "[SYSTEM_PROMPT]",
            "[TOOL_RESULTS]",
            "[TOOL_CALLS]",
            "[AVAILABLE_TOOLS]",
        ],
        r"\[/?INST\]|<</?SYS>>|\[(?:SYSTEM_PROMPT|TOOL_RESULTS|TOOL_CALLS|AVAILABLE_TOOLS)\]",
    ),
    family("chat-template", Token, &["<start_of_turn>", "<end_of_turn>"], r"<(?:start|end)_of_turn>"),
    family(
        "tool-result",
        Token,
        &[
            "<tool_",
            "</tool_",
            "<function_",
            "</function_",
            "<invoke name",
            "<antml",
            "</antml",
            "<system-reminder",
            "</system-reminder",
            "<system_prompt",
            "</system_prompt",
        ],
        r#"</?(?:tool_(?:result|call|response|output|use|calls|results)|function_(?:calls|results|result|call)|antml:[a-z_]+|system-reminder|system_prompt)(?: [^<>\n]{0,80})?>|<invoke name[ ]?=[ ]?\\?["'][^<>\n]{0,80}>"#,
    ),
    family("fake-turn", Paragraph, &["human:", "assistant:"], r"(?:human|assistant):[ \t\n]"),
    family(
        "fake-turn",
        Word,
        &["\"role\"", "\\\"role\\\""],
        r#"\\?"role\\?"[ ]?:[ ]?\\?"(?:system|developer|tool|assistant)\\?"[ ]?,[ ]?\\?"(?:content|tool_call)"#,
    ),
    family(
        "tool-result",
        Word,
        &["\"type\"", "tool_use_id"],
        r#""type"[ ]?:[ ]?"tool_(?:result|use)"|tool_use_id"?[ ]?[:=]"#,
    ),
    family(
        "tool-result",
        Word,
        &["begin tool", "end tool", "end of tool"],
        r"(?:begin|end(?: of)?)~tool~(?:results?|outputs?|response)",
    ),
    family(
        "ignore-instructions",
        Word,
        &["ignore", "disregard", "forget"],
        r"(?:ignore|disregard|forget)~(?:(?:all|any|every|everything|the|your|my|of|these|those|previous|prior|above|earlier|preceding|system|safety|other|existing|original|you~(?:were|have~been)~(?:told|given)|that~came|before)~){0,6}(?:instructions?|prompts?|guidelines|directives|directions|rules~(?:above|you|and|from)|previous~(?:rules|messages|context|conversation)|before~this)",
    ),
    family(
        "ignore-instructions",
        Word,
        &["override", "bypass"],
        r"(?:override|bypass)~(?:(?:all|any|the|your|previous|prior|system|safety|current)~){0,4}(?:instructions|prompt|guidelines|guardrails|safety~(?:rules|checks|policy))",
    ),
    family(
        "ignore-instructions",
        Word,
        &["ignorier", "ignorez", "ignora ", "ignore todas", "vergiss"],
        r"(?:ignorieren?|vergiss)~(?:sie~)?(?:alle|die|s[^ ]{1,4}mtliche)~(?:(?:bisherigen|vorherigen|vorigen|obigen|fr[^ ]{1,3}heren)~){1,2}(?:anweisungen|instruktionen|vorgaben|regeln)|ignorez~(?:toutes~)?les~(?:instructions|consignes)|ignora~(?:todas~)?(?:las~)?instrucciones|ignore~todas~as~instru",
    ),
    family(
        "role-change",
        Word,
        &["you are now", "you're now", "from now on", "act as ", "pretend "],
        r"you(?:~are|'re)~now~(?:(?:an?|the|my|acting|operating|in)~)(?:[a-z-]{1,20}~){0,4}?(?:assistant|agent|ai|a\.i\.|model|bot|llm|chatbot|hacker|administrator|dan|mode|persona|shell)(?-u:\b)|you(?:~are|'re)~now~(?:dan|jailbroken|unrestricted|free~(?:of|from))|from~now~on~you~(?:will|must|are|should|shall|can)|(?:act|pretend)~(?:as|to~be|you~are)~(?:if~you~(?:are|were)~)?(?:an?~)?(?:[a-z-]{1,20}~){0,3}?(?:ai|language~model|unrestricted|jailbroken|developer~mode|assistant~without)",
    ),
    family(
        "new-instructions",
        Word,
        &[
            "new instruction",
            "new system",
            "updated instruction",
            "real instruction",
            "your instructions are",
            "your new",
            "your real",
        ],
        r"(?:your~)?(?:new|updated|real)~(?:system~)?(?:instructions?|prompt|task|goal|objective)(?:[ ]?:|~are~|~is~(?:to|now)~)|your~instructions~are~(?:to|now)~",
    ),
    family(
        "system-prompt",
        Word,
        &["reveal", "print", "repeat", "output", "show", "leak", "tell me", "disclose"],
        r"(?:reveal|print|repeat|output|show|leak|tell~me|disclose)~(?:me~)?(?:(?:all|the|your|full|entire|exact|hidden|whole|verbatim|initial|original)~){0,4}(?:system~(?:prompt|instructions)|(?:message|system~message)~(?:verbatim|above)|initial~instructions|prompt~verbatim|hidden~instructions)",
    ),
    family(
        "addressed-to-model",
        Word,
        &[
            "attention",
            "note to",
            "message to",
            "message for",
            "instructions for",
            "dear ",
            "hey ",
            "hello ",
            "important:",
            "important instruction",
        ],
        r"(?:attention|dear|hey|hello)[ ,:!]{1,3}(?:all~)?(?:ai|a\.i\.|llm|language~model)(?:~(?:assistants?|agents?|models?))?[ ,:!.]|(?:attention|dear)[ ,:!]{1,3}(?:assistant|agent)[,:!]|(?:note|message|important~instructions?|instructions)~(?:to|for)~(?:the~|any~|all~)?(?:ai|llm|language~model|assistant|model|chatbot)s?(?:~(?:assistant|agent|model|reading))?[ ,:!.]|important:~(?:ai|llm|assistant|the~(?:assistant|model|agent))~(?:must|should|reading|has~to|needs)",
    ),
    family(
        "hide-from-user",
        Word,
        &[
            "do not tell",
            "don't tell",
            "do not inform",
            "do not mention",
            "don't mention",
            "never mention",
            "without telling",
            "without informing",
            "without asking",
            "do not reveal",
            "do not alert",
            "do not ask",
        ],
        r"(?:do~not|don't|never|without)~(?:tell|telling|inform|informing|mention|alert|ask|asking|reveal)~(?:(?:this|it|anything|that)~)?(?:(?:to|about|the|this|your|any)~){0,3}(?:user|operator|human|administrator~about|owner~about)(?-u:\b)",
    ),
    family(
        "false-approval",
        Word,
        &["user has ", "operator has ", "administrator has ", "human has ", "approval has", "pre-approved"],
        r"(?:user|operator|administrator|human)~has~(?:already~)?(?:approved|authori[sz]ed|confirmed|consented|given~(?:you~)?permission)~(?:this|the|all|any|to)|approval~has~(?:already~)?been~(?:granted|given)~(?:for|by)~(?:this|all|the~(?:user|operator))|pre-approved~by~(?:the~)?(?:user|operator|administrator)",
    ),
    family(
        "tool-order",
        Word,
        &[
            "you must",
            "you should now",
            "please call",
            "please run",
            "please use",
            "immediately call",
            "now call the",
            "now run the",
            "now use the",
        ],
        r"(?:you~(?:must|should)(?:~(?:now|immediately|first))?|please|immediately|now)~(?:call|run|invoke|use|execute)~(?:the~)?[`'\x22]?[a-z]{2,20}(?:_[a-z]{2,20}){1,3}[`'\x22]?~(?:tool|with|on|to|function)",
    ),
    family(
        "jailbreak",
        Word,
        &["jailbreak", "developer mode", "god mode", "do anything now"],
        r"jailbreak(?:en|ed)?~(?:mode|prompt|yourself)|(?:developer|god)~mode~(?:enabled|activated|is~now)|do~anything~now",
    ),
    family(
        "markdown-exfiltration",
        Word,
        &["!["],
        r"!\[[^\]\n]{0,120}\]\(https?://[^)\s]{1,200}\?[^)\s]{0,100}(?:[\[{<$]|%7[Bb]|%5[Bb]|(?:data|secret|token|leak|exfil|payload|content|context|conversation|stolen|password)=)",
    ),
    family(
        "markdown-exfiltration",
        Word,
        &["<img "],
        r#"<img [^>\n]{0,120}src[ ]?=[ ]?\\?["']?https?://[^"'>\s]{1,200}\?[^"'>\s]{0,100}(?:[\[{<$]|%7[Bb]|%5[Bb]|(?:data|secret|token|leak|exfil|payload|content|context|conversation|stolen|password)=)"#,
    ),
];

/// What stands between two words: blanks, quotes and the signs of markup.
const BETWEEN: &str = r#"[ \t\n\r"'*_`>#.,:;/\\-]{1,12}"#;
/// No mark is longer.
const LONGEST: usize = 400;

#[expect(clippy::expect_used, reason = "the patterns are constants; every test compiles them")]
static PATTERNS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let regex = |family: &Family| {
        let pattern = family.pattern.replace('~', BETWEEN).replace(r"\s", r" \t\r\n");
        Regex::new(&format!(r"\A(?i-u:{pattern})")).expect("a valid pattern")
    };
    FAMILIES.iter().map(regex).collect()
});

/// A mark in a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its sort.
    pub(super) name: &'static str,
    /// Where.
    pub(super) range: Range<usize>,
    /// Whether its first sign must be exchanged.
    pub(super) token: bool,
}

/// Characters that carry hidden text: tags and the supplementary variation selectors. A flag made of tags has six.
const HIDDEN: usize = 8;

/// Whether `text`, as it came, hides text in characters that nobody sees.
pub(super) fn hidden(text: &str) -> bool {
    // All of them begin with these two bytes.
    let bytes = text.as_bytes();
    memchr::memchr(0xF3, bytes).is_some()
        && text
            .chars()
            .filter(|c| matches!(c, '\u{E0000}'..='\u{E007F}' | '\u{E0100}'..='\u{E01EF}'))
            .nth(HIDDEN - 1)
            .is_some()
}

/// The marks of `text`, in order, apart from each other.
pub(super) fn find(text: &str, hits: &[Hit]) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for hit in hits {
        let Anchor::Marker(index) = hit.anchor else { continue };
        let (Some(family), Some(pattern)) = (FAMILIES.get(index), PATTERNS.get(index)) else { continue };
        if found.last().is_some_and(|last| hit.start < last.range.end) || !placed(text, hit.start, family.place) {
            continue;
        }
        let end = text.floor_char_boundary(hit.start.saturating_add(LONGEST));
        if let Some(mark) = text.as_bytes().get(hit.start..end).and_then(|window| pattern.find(window)) {
            let range = hit.start..hit.start + mark.end();
            found.push(Found { name: family.name, range, token: family.place == Token });
        }
    }
    found
}

fn placed(text: &str, at: usize, place: Place) -> bool {
    let head = text.get(..at).unwrap_or_default();
    match place {
        Token => true,
        Word => !head.as_bytes().last().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_'),
        Paragraph => head.is_empty() || head.ends_with("\n\n") || head.ends_with("\\n\\n"),
    }
}

/// `text` with the first sign of every control token exchanged for its full-width twin, which no tokenizer takes for
/// one and every reader understands.
pub(super) fn neutralised(text: &str, found: &[Found]) -> Option<String> {
    let tokens = found.iter().filter(|mark| mark.token);
    let mut out = String::new();
    let mut from = 0;
    for mark in tokens {
        out.push_str(text.get(from..mark.range.start)?);
        let first = text.get(mark.range.start..)?.chars().next()?;
        out.push(if first == '[' { '［' } else { '＜' });
        from = mark.range.start + first.len_utf8();
    }
    if from == 0 {
        return None;
    }
    out.push_str(text.get(from..)?);
    Some(out)
}
