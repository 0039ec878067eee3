# Short names for what is done often. `just` alone lists them.

export PATH := justfile_directory() / "target/tools/bin:" + env("PATH")

_list:
    @{{ just_executable() }} --list --unsorted

# A gateway on this machine, for trying things out
dev *ARGS:
    cargo run -- serve --dev {{ ARGS }}

# What a change must pass before it is shown to anybody
check:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

# The program with the embedded node; needs Go
embedded *ARGS:
    cargo build --features embedded {{ ARGS }}

# Every test
test *ARGS:
    cargo test {{ ARGS }}

# The tests on a real tailnet in network namespaces; needs root and Go
lab *ARGS:
    CI=true cargo test --features embedded --test lab -- {{ ARGS }}

# What calls cost on the tailnet, in a release build
lab-cost:
    CI=true cargo test --release --features embedded --test lab -- cost::

# A shell in the running tailnet
lab-shell:
    CI=true TAILOPS_LAB_SHELL=bash cargo test --test lab -- --exact --nocapture shell::the_lab_stands_open_to_people

# The gateway against a bare server; --quick for a short run
bench *ARGS:
    cargo bench --bench call -- {{ ARGS }}

# Licences, banned crates and sources of all dependencies
deny: _cargo-deny
    cargo deny check bans licenses sources

# Known vulnerabilities in dependencies; fetches the RustSec database
advisories: _cargo-deny
    cargo deny check advisories

# What the README promises a newcomer, driven by a script
newcomer:
    scripts/newcomer

# Clients and the conformance suite from npm, against the real binary
clients:
    scripts/clients

# Every parser of untrusted bytes, SECONDS for each target; needs a nightly compiler
fuzz *ARGS:
    scripts/fuzz {{ ARGS }}

# The systemd unit, its user and its directories, as systemd judges them
packaging:
    scripts/packaging

# What docs/deploy.md says, on a real Debian with systemd; needs root
deployed *ARGS:
    scripts/deployed {{ ARGS }}

# The terminal recording in the README, made anew
record:
    scripts/record

# Manual pages into target/man
man:
    cargo run --quiet -- man --out target/man

# Everything CI does
ci:
    .ci/run

_cargo-deny:
    @command -v cargo-deny >/dev/null || cargo install --locked --root target/tools cargo-deny
