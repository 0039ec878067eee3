//! Names that tell and names that do not.

use super::*;

#[test]
fn names_that_hold_secrets_are_known_in_every_spelling() {
    for name in [
        "password",
        "PASSWORD",
        "dbPassword",
        "DB_PASSWORD",
        "db-password",
        "spring.datasource.password",
        "passwd",
        "PGPASSWORD",
        "MYSQL_PWD",
        "passphrase",
        "secret",
        "clientSecret",
        "client_secret",
        "JWTSecret",
        "token",
        "authToken",
        "_authToken",
        "X-Auth-Token",
        "api_key",
        "apiKey",
        "APIKey",
        "API key",
        "x-api-key",
        "aws_secret_access_key",
        "SecretAccessKey",
        "AccountKey",
        "private_key",
        "PrivateKey",
        "password2",
        "PASSWORD_1",
        "password_confirmation",
        "SECRET_KEY_BASE",
        "db_pass",
        "SMTP_PASS",
        "psk",
        "passwords",
    ] {
        assert!(kind(name).is_some(), "{name}");
    }
    assert_eq!(kind("AWS_SECRET_ACCESS_KEY"), Some("aws-secret"));
}

#[test]
fn every_known_name_holds_a_stem() {
    let lone = ["pass", "dbpass", "userpass", "rootpass", "smtppass", "keypass", "storepass", "authpass", "psk"];
    for known in SUFFIXES.iter().map(|(suffix, _)| *suffix).chain(lone).chain(["accesskey"]) {
        assert!(telling(known), "{known}");
    }
}

#[test]
fn names_that_only_speak_of_them_are_not() {
    for name in [
        "token_count",
        "password_changed_at",
        "secret_name",
        "tokens_per_minute",
        "key_id",
        "access_key_id",
        "tokens",
        "next_token",
        "nextPageToken",
        "max_token",
        "password_file",
        "PASSWORD_FILE",
        "public_key",
        "OLDPWD",
        "bypass",
        "compass",
        "LoadCredential",
        "token_type",
        "token_ttl",
        "key",
        "name",
        "",
        "PasswordAuthentication",
        "secretary",
        "systemd-ask-password-console.path",
    ] {
        assert_eq!(kind(name), None, "{name}");
    }
}

#[test]
fn stand_ins_are_no_secrets() {
    for value in [
        "",
        " ",
        "***",
        "********",
        "xxxx",
        "<redacted>",
        "[REDACTED]",
        "redacted",
        "<your-password>",
        "null",
        "true",
        "None",
        "$VAR",
        "${VAR}",
        "{{ .Values.x }}",
        "‹secret:token#1›",
        "‹cut:12 bytes›",
        "...",
    ] {
        assert!(placeholder(value), "{value}");
    }
    for value in ["hunter2", "$ecret", "x", "nullable", "<a1>", "‹secret:hunter2", "0", "pass word"] {
        assert!(!placeholder(value), "{value}");
    }
}

#[test]
fn what_machines_make_up_looks_so_and_ids_do_not() {
    for secret in ["aB3dE5fG7hJ9kL1mN3pQ5rS7tU9", "kJ8hG7fD6sA5qW4eR3tY2uI1oP0z=="] {
        assert!(entropic(secret), "{secret}");
    }
    for id in [
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "7c9e6679-7425-40de-944b-e07fc1f90ae7",
        "photos/2026/11/21/IMG_1234.JPG",
        "AAAAAAAAAAAAAAAAAAAAaaaa1111",
        "short1A",
    ] {
        assert!(!entropic(id), "{id}");
    }
}
