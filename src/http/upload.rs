//! Looks at the bytes of a body as they arrive, for the content of a file that is longer than files may be, so that the
//! rest of it need not be taken. It only refuses earlier what `file_write` refuses anyway: what it does not recognise
//! it lets pass.

/// The tool whose content is looked for, and where it stands: `params.arguments.content`.
const TOOL: &[u8] = b"file_write";
const PATH: [&[u8]; 2] = [b"params", b"arguments"];
/// Keys and values that matter are no longer than this.
const LONGEST_WORD: usize = 24;

/// The content is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`content`: a file may have at most {0} bytes")]
pub(super) struct FileTooLong(usize);

/// What a string is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A key, or a value that may be the tool's name or the encoding.
    Word,
    /// The content.
    Content,
    /// Anything else.
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Begun,
    /// This many hexadecimal digits of `\u` are still to come.
    Digits(u8),
}

/// What was seen so far of one message.
pub(super) struct Upload {
    most: usize,
    depth: usize,
    /// How many objects are open that lead to the content, from the outermost on.
    followed: usize,
    /// Whether the next string is a key.
    key_next: bool,
    /// The last key in the innermost of those objects.
    key: Vec<u8>,
    /// The string that is being read, and the first bytes of it where they matter.
    string: Option<Role>,
    word: Vec<u8>,
    escape: Escape,
    code: u32,
    /// The tool, once its name was read.
    tool: Option<bool>,
    /// Whether the content is base64, once that was read.
    base64: Option<bool>,
    /// The content, in bytes, and how many of those no base64 has.
    length: usize,
    foreign: usize,
    /// Of base64, without padding.
    digits: usize,
}

impl Upload {
    /// Looks for a content of more than `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            depth: 0,
            followed: 0,
            key_next: false,
            key: Vec::new(),
            string: None,
            word: Vec::new(),
            escape: Escape::None,
            code: 0,
            tool: None,
            base64: None,
            length: 0,
            foreign: 0,
            digits: 0,
        }
    }

    /// Looks at the next bytes. Errors as soon as the content is certain to be too long.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Result<(), FileTooLong> {
        for &byte in bytes {
            match self.string {
                Some(role) => self.inside(role, byte)?,
                None => self.outside(byte),
            }
        }
        Ok(())
    }

    fn outside(&mut self, byte: u8) {
        // Only in the innermost followed object does anything matter but the depth.
        let here = self.depth == self.followed;
        match byte {
            b'"' => {
                self.word.clear();
                let in_arguments = self.followed == PATH.len() + 1;
                self.string = Some(match here && self.followed > 0 {
                    true if self.key_next => Role::Word,
                    true if in_arguments && self.key == b"content" => Role::Content,
                    true => Role::Word,
                    false => Role::Other,
                });
            }
            b'{' => {
                let leads = here
                    && match self.followed.checked_sub(1) {
                        None => true,
                        Some(index) => PATH.get(index).is_some_and(|key| self.key == *key),
                    };
                self.depth += 1;
                if leads {
                    self.followed = self.depth;
                    self.key_next = true;
                    self.key.clear();
                }
            }
            b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.followed > self.depth {
                    self.followed = self.depth;
                    self.key.clear();
                }
            }
            b',' if here => self.key_next = true,
            b':' if here => self.key_next = false,
            _ => {}
        }
    }

    fn inside(&mut self, role: Role, byte: u8) -> Result<(), FileTooLong> {
        match (self.escape, byte) {
            (Escape::Begun, b'u') => (self.escape, self.code) = (Escape::Digits(4), 0),
            (Escape::Begun, _) => {
                self.escape = Escape::None;
                return self.take(role, if byte == b'/' { byte } else { b'\n' }, 1);
            }
            (Escape::Digits(left), _) => {
                self.code = self.code << 4 | char::from(byte).to_digit(16).unwrap_or_default();
                self.escape = Escape::Digits(left - 1);
                if left == 1 {
                    self.escape = Escape::None;
                    let length = match self.code {
                        0..0x80 => 1,
                        // Half of a pair, which takes four bytes together.
                        0x80..0x800 | 0xd800..0xe000 => 2,
                        _ => 3,
                    };
                    return self.take(role, u8::try_from(self.code).unwrap_or(u8::MAX), length);
                }
            }
            (Escape::None, b'\\') => self.escape = Escape::Begun,
            (Escape::None, b'"') => self.close(role),
            (Escape::None, _) => return self.take(role, byte, 1),
        }
        Ok(())
    }

    /// Takes one character, or one byte of it, of the string.
    fn take(&mut self, role: Role, byte: u8, length: usize) -> Result<(), FileTooLong> {
        match role {
            Role::Other => {}
            Role::Word => {
                if self.word.len() < LONGEST_WORD {
                    self.word.push(byte);
                }
            }
            Role::Content => {
                self.length += length;
                if byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/' {
                    self.digits += 1;
                } else if !matches!(byte, b'=' | b'\n' | b'\r') {
                    self.foreign += 1;
                }
                if self.tool != Some(false) && self.is_too_long() {
                    return Err(FileTooLong(self.most));
                }
            }
        }
        Ok(())
    }

    /// Whether what was seen of the content is already too much, however it ends. Base64 takes four digits for three
    /// bytes; until the encoding is known, a text that no base64 can be is taken for text.
    fn is_too_long(&self) -> bool {
        let text = self.base64 == Some(false) || (self.base64.is_none() && self.foreign > 0);
        let digits = self.most.saturating_mul(4).div_ceil(3);
        (text && self.length > self.most) || (self.base64 != Some(false) && self.digits > digits)
    }

    fn close(&mut self, role: Role) {
        self.string = None;
        if role != Role::Word {
            return;
        }
        if self.key_next {
            std::mem::swap(&mut self.key, &mut self.word);
        } else if self.followed == PATH.len() && self.key == b"name" {
            self.tool = Some(self.word == TOOL);
        } else if self.followed == PATH.len() + 1 && self.key == b"encoding" {
            self.base64 = Some(self.word == b"base64");
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// After how many bytes a body is refused, if it is.
    fn refused_after(body: &str, most: usize, chunk: usize) -> Option<usize> {
        let mut upload = Upload::new(most);
        let mut seen = 0;
        for bytes in body.as_bytes().chunks(chunk) {
            seen += bytes.len();
            if upload.look(bytes).is_err() {
                return Some(seen);
            }
        }
        None
    }

    fn call(tool: &str, arguments: &Value) -> String {
        json!({"id": [1, {"params": {}}], "jsonrpc": "2.0", "params": {"name": tool, "arguments": arguments}})
            .to_string()
    }

    fn refused(tool: &str, arguments: Value) -> bool {
        refused_after(&call(tool, &arguments), 100, 7).is_some()
    }

    #[test]
    fn p76_one_byte_too_many_is_refused_and_the_most_is_not() {
        for text in ["a b\n", "é ü", "\u{1f600} ", "\u{7} ", "\"\\/ ", "plain "] {
            let most = text.repeat(100 / text.len());
            let most = format!("{most}{}", ".".repeat(100 - most.len()));
            assert!(!refused("file_write", json!({"content": most})), "{text:?}");
            assert!(refused("file_write", json!({"content": format!("{most}.")})), "{text:?}");
            assert!(refused("file_write", json!({"encoding": "utf8", "path": "/x", "content": format!("{most}.")})));
        }
        for (length, wanted) in [(98, false), (99, false), (100, false), (101, true), (102, true), (103, true)] {
            let content = STANDARD.encode(vec![7; length]);
            for arguments in [
                json!({"encoding": "base64", "content": content}),
                json!({"content": content, "encoding": "base64"}),
                json!({"content": content, "z": 1}),
            ] {
                assert_eq!(refused("file_write", arguments), wanted, "{length}");
            }
        }
        // What could be base64 is text once that is said.
        assert!(refused("file_write", json!({"a": 0, "encoding": "utf8", "content": "a".repeat(101)})));
        let message = refused_after(&call("file_write", &json!({"content": "a ".repeat(5000)})), 100, 1).unwrap();
        assert!(message < 400, "refused long before the end: {message}");
    }

    #[test]
    fn p76_before_the_tools_name_is_read_it_counts_as_this_tool() {
        let long = "a ".repeat(60);
        let first = json!({"method": "tools/call"}).to_string().replace('}', "");
        for (body, wanted) in [
            (
                format!("{first},\"params\":{{\"arguments\":{{\"content\":\"{long}\"}},\"name\":\"file_write\"}}}}"),
                true,
            ),
            (
                format!("{first},\"params\":{{\"name\":\"file_write\",\"arguments\":{{\"content\":\"{long}\"}}}}}}"),
                true,
            ),
            (format!("{first},\"params\":{{\"name\":\"other\",\"arguments\":{{\"content\":\"{long}\"}}}}}}"), false),
        ] {
            assert_eq!(refused_after(&body, 100, 3).is_some(), wanted, "{body}");
        }
    }

    #[test]
    fn what_only_looks_like_a_content_is_let_pass() {
        let long = "a ".repeat(60);
        for body in [
            json!({"params": {"name": "file_write", "arguments": {"path": long, "other": {"content": long}}}}),
            json!({"params": {"name": "file_write", "arguments": [{"content": long}], "content": long}}),
            json!({"params": {"name": "file_write", "_meta": {"arguments": {"content": long}}}}),
            json!({"content": long, "arguments": {"content": long}}),
            json!({"params": [{"arguments": {"content": long}}]}),
            json!([{"params": {"arguments": {"content": long}}}]),
            json!({"params": {"name": "file_write", "arguments": {"content": [long]}}}),
            json!({"x": "\"params\":{\"arguments\":{\"content\":", "params": {"arguments": {"reason": long}}}),
        ] {
            assert_eq!(refused_after(&body.to_string(), 100, 5), None, "{body}");
        }
    }

    proptest! {
        /// However the body is cut into pieces and whatever it holds, the content's length decides.
        #[test]
        fn p76_the_length_decides(content in "\\PC{0,80}", encoding in prop::sample::select(vec!["utf8", "base64"]), chunk in 1_usize..40) {
            let body = call("file_write", &json!({"encoding": encoding, "content": content, "reason": "x".repeat(200)}));
            let most = 60;
            let wanted = encoding == "utf8" && content.len() > most
                || encoding == "base64" && content.bytes().filter(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(byte)).count() > 80;
            prop_assert_eq!(refused_after(&body, most, chunk).is_some(), wanted);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Upload::new(3).look(&bytes);
        }
    }
}
