//! Bearer tokens: any text is taken apart, and any payload under a mac that fits is read.
#![no_main]

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use ring::hmac;
use tailops::auth::{MAX_TOKEN_BYTES, Sealed, TokenFault};

static KEY: LazyLock<hmac::Key> = LazyLock::new(|| hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]));

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(sealed) = Sealed::parse(text)
    {
        assert!(text.len() <= MAX_TOKEN_BYTES, "a token that is too long is taken apart");
        assert!(!sealed.key_id.is_empty() && sealed.key_id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert!(sealed.open(&KEY).is_err(), "a mac was guessed: {text}");
    }
    // The payload is reached only behind a mac that fits.
    let signed = format!("tailops_k1.{}", URL_SAFE_NO_PAD.encode(data));
    let mac = URL_SAFE_NO_PAD.encode(hmac::sign(&KEY, signed.as_bytes()));
    let text = format!("{signed}.{mac}");
    let Ok(sealed) = Sealed::parse(&text) else {
        assert!(text.len() > MAX_TOKEN_BYTES, "a token in its right form is not taken apart: {text}");
        return;
    };
    match sealed.open(&KEY) {
        Ok(claims) => {
            let again = serde_json::to_vec(&claims).expect("claims are JSON");
            let read: tailops::auth::Claims = serde_json::from_slice(&again).expect("what is written can be read");
            assert_eq!(read, claims);
        }
        Err(fault) => assert_eq!(fault, TokenFault::Payload),
    }
});
