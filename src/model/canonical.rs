//! One form for one JSON value: RFC 8785 (JCS) for what is hashed and logged, and the refusal of keys that two
//! parsers could read differently.

use std::{
    borrow::Cow,
    collections::HashSet,
    fmt::{self, Write},
};

use serde::{
    Serialize,
    de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor},
};

/// `value` in the canonical form of RFC 8785. Errors only on numbers JSON cannot carry (NaN, infinities).
pub fn canonical_json(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    serde_json_canonicalizer::to_vec(value)
}

/// `bytes` in lower-case hex: how digests are written everywhere.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Why [`check_keys`] refused a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// The same key twice in one object, or two that differ only in case.
    #[error("key {0:?} stands more than once in one object, or in two spellings that differ only in case")]
    Repeated(String),
    /// Not JSON at all.
    #[error("not valid JSON: {0}")]
    Syntax(String),
}

/// Refuses a JSON text in which some object has a key twice or in two spellings that differ only in case: two parsers
/// could act on different values of it. Reads the whole text; trailing bytes are refused.
pub fn check_keys(json: &[u8]) -> Result<(), KeyFault> {
    let mut repeated = None;
    let mut reader = serde_json::Deserializer::from_slice(json);
    Checker { repeated: &mut repeated }.deserialize(&mut reader).and_then(|()| reader.end()).map_err(|error| {
        match repeated.take() {
            Some(key) => KeyFault::Repeated(key),
            None => KeyFault::Syntax(error.to_string()),
        }
    })
}

struct Checker<'r> {
    repeated: &'r mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for Checker<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! ignore {
    ($($visit:ident: $kind:ty),* $(,)?) => {
        $(fn $visit<E: Error>(self, _: $kind) -> Result<(), E> {
            Ok(())
        })*
    };
}

impl<'de> Visitor<'de> for Checker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    ignore!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Checker { repeated: self.repeated })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = Keys::default();
        while let Some(Key(key)) = map.next_key_seed(KeySeed)? {
            if !seen.insert(&key) {
                *self.repeated = Some(key.into_owned());
                return Err(A::Error::custom("repeated key"));
            }
            map.next_value_seed(Checker { repeated: self.repeated })?;
        }
        Ok(())
    }
}

/// Keys folded to lower case: a handful is searched, many are hashed, so that a flood of keys costs linear time.
#[derive(Default)]
struct Keys {
    few: Vec<String>,
    many: HashSet<String>,
}

impl Keys {
    fn insert(&mut self, key: &str) -> bool {
        let folded = key.to_lowercase();
        if self.many.is_empty() && self.few.len() < 16 {
            let new = !self.few.contains(&folded);
            self.few.push(folded);
            new
        } else {
            self.many.extend(self.few.drain(..));
            self.many.insert(folded)
        }
    }
}

struct Key<'de>(Cow<'de, str>);
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key<'de>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(key)))
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(key.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn repeated_and_case_variant_keys_are_refused_at_any_depth() {
        for bad in [r#"{"a":1,"a":2}"#, r#"{"a":1,"A":2}"#, r#"[{"x":[{"k":1,"K":1}]}]"#, r#"{"a":1,"\u0061":2}"#] {
            assert!(matches!(check_keys(bad.as_bytes()), Err(KeyFault::Repeated(_))), "{bad}");
        }
        let many: Vec<String> = (0..40).map(|n| format!("\"k{n}\":0")).collect();
        assert_eq!(check_keys(format!("{{{}}}", many.join(",")).as_bytes()), Ok(()));
        assert!(check_keys(format!("{{{},\"K3\":0}}", many.join(",")).as_bytes()).is_err());
    }

    #[test]
    fn other_texts_are_told_apart() {
        assert_eq!(check_keys(br#"{"a":{"a":[1,null,true,"x",1.5]},"b":{}}"#), Ok(()));
        for bad in ["", "{", "{}x", "{\"a\":}", "\u{0}"] {
            assert!(matches!(check_keys(bad.as_bytes()), Err(KeyFault::Syntax(_))), "{bad}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            (-1e9..1e9).prop_map(|number: f64| Value::from(number)),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..6)
                    .prop_map(|map| Value::from(serde_json::Map::from_iter(map))),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_canonical_form_says_the_same_and_is_its_own(value in any_json()) {
            let canonical = canonical_json(&value).unwrap();
            let read: Value = serde_json::from_slice(&canonical).unwrap();
            prop_assert_eq!(canonical_json(&read).unwrap(), canonical);
        }

        #[test]
        fn the_check_refuses_exactly_what_folds_to_one_key(keys in prop::collection::vec("[abAB]{1,2}", 0..5)) {
            let fields: Vec<_> = keys.iter().map(|key| format!("\"{key}\":0")).collect();
            let folded: HashSet<_> = keys.iter().map(|key| key.to_lowercase()).collect();
            let checked = check_keys(format!("[{{{}}}]", fields.join(",")).as_bytes());
            prop_assert_eq!(checked.is_ok(), folded.len() == keys.len());
        }

        #[test]
        fn no_bytes_make_the_check_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = check_keys(&bytes);
        }
    }
}
