//! Ansible's `setup` on the same targets: from PyPI, in an environment of its own below the build folder.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::machine::{Machine, command, output};

pub(crate) struct Ansible {
    program: PathBuf,
    folder: PathBuf,
    inventory: PathBuf,
    targets: usize,
    pub(crate) version: String,
}

impl Ansible {
    /// Installs it where it was not, and writes the inventory of `machine`. Errors where Python or PyPI cannot be had.
    pub(crate) fn prepare(machine: &Machine, folder: &Path) -> Result<Self> {
        let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("no build folder")?.join("tools");
        let environment = tools.join("ansible");
        let program = environment.join("bin/ansible");
        if !program.exists() {
            fs::create_dir_all(&tools)?;
            output(command("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
            let mut pip = command(environment.join("bin/pip"));
            output(pip.args(["install", "--quiet", "--disable-pip-version-check", "ansible-core"]))?;
        }
        let printed = output(command(&program).arg("--version"))?;
        let version = printed.lines().next().unwrap_or_default().to_owned();
        let python =
            output(command("python3").args(["-c", "import os, sys; print(os.path.realpath(sys.executable))"]))?;
        let hosts: String = machine.addresses.iter().map(|ip| format!("{ip}\n")).collect();
        let inventory = folder.join("inventory.ini");
        fs::write(
            &inventory,
            format!(
                "[all]\n{hosts}\n[all:vars]\nansible_port={}\nansible_user={}\nansible_ssh_private_key_file={}\n\
                 ansible_python_interpreter={}\nansible_ssh_common_args=-F none -o UserKnownHostsFile={} -o \
                 StrictHostKeyChecking=yes\n",
                machine.port,
                machine.user,
                machine.key.display(),
                python.trim(),
                machine.known_hosts.display()
            ),
        )?;
        // Sockets of its connections lie there, and their paths must be short.
        let home = folder.join("a");
        fs::create_dir_all(&home)?;
        // Its defaults, whatever the user's own configuration says.
        fs::write(home.join("ansible.cfg"), "[defaults]\n")?;
        Ok(Self { program, folder: home, inventory, targets: machine.addresses.len(), version })
    }

    /// Reads the facts of every target.
    pub(crate) fn refresh(&self, forks: usize) -> Result<Duration> {
        let log = self.folder.join("out");
        let mut setup = command(&self.program);
        setup.args(["all", "-m", "setup", "-o", "-f", &forks.to_string(), "-i"]).arg(&self.inventory);
        setup
            .env("ANSIBLE_HOME", &self.folder)
            .env("ANSIBLE_CONFIG", self.folder.join("ansible.cfg"))
            .env("ANSIBLE_NOCOLOR", "1");
        setup.env("LC_ALL", "C.UTF-8").current_dir(&self.folder);
        setup.stdin(Stdio::null()).stdout(File::create(&log)?).stderr(File::create(log.with_extension("err"))?);
        let start = Instant::now();
        let status = setup.status()?;
        let took = start.elapsed();
        let errors = fs::read_to_string(log.with_extension("err"))?;
        ensure!(status.success(), "ansible: {status}: {errors}");
        let answered = fs::read_to_string(&log)?.lines().filter(|line| line.contains(" | SUCCESS => ")).count();
        ensure!(answered == self.targets, "ansible read {answered} of {} targets: {errors}", self.targets);
        Ok(took)
    }
}
