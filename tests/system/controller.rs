//! The machine from which a fleet is managed: Ansible out here, in the network of the machines, with the collection installed as
//! docs/fleet.md says.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::machine::{Machine, Output, lab};
use crate::network::Network;

/// A directory with an inventory and the collection.
pub struct Controller<'a> {
    network: &'a Network,
    directory: tempfile::TempDir,
}

/// A host of the fleet, by the name that the inventory has for it.
pub struct Host {
    pub name: &'static str,
    pub address: String,
    pub machine: Machine,
}

impl Host {
    /// The n-th host of a fleet.
    pub fn boot(network: &Network, root: &str, name: &'static str, number: usize) -> Self {
        let address = address(number);
        Self { machine: Machine::boot_at(network, root, &address), name, address }
    }
}

/// Of the n-th host.
pub fn address(number: usize) -> String {
    format!("10.77.{}.{}", 1 + number / 200, 1 + number % 200)
}

/// The package's own checkout.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl<'a> Controller<'a> {
    pub fn new(network: &'a Network) -> Self {
        let controller = Self { network, directory: tempfile::tempdir().expect("a directory") };
        controller.sh(&format!("ansible-galaxy collection install {}/packaging/ansible", checkout().display())).ok();
        controller
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes the inventory, `inventory.ini`; each line is a name, an address and variables of the host.
    pub fn inventory<'h>(&self, hosts: impl IntoIterator<Item = (&'h str, &'h str, &'h str)>) {
        let key = lab().join("login-key");
        let mut text: String = hosts
            .into_iter()
            .map(|(name, address, variables)| format!("{name} ansible_host={address} {variables}\n"))
            .collect();
        text += &format!(
            "\n[all:vars]\nansible_user=root\nansible_ssh_private_key_file={}\nansible_python_interpreter=/usr/bin/python3\n\
             ansible_ssh_common_args=-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR\n",
            key.display()
        );
        std::fs::write(self.directory().join("inventory.ini"), text).expect("the inventory is written");
    }

    /// The inventory of these hosts, all alike.
    pub fn manages(&self, hosts: &[Host]) {
        self.inventory(hosts.iter().map(|host| (host.name, host.address.as_str(), "")));
    }

    /// Runs commands as the page has them.
    pub fn sh(&self, text: &str) -> Output {
        let ansible: PathBuf = lab().join("ansible/bin");
        assert!(
            ansible.join("ansible-playbook").exists(),
            "{} is missing: run tests/system/prepare",
            ansible.display()
        );
        let home = self.directory();
        let mut command = self.network.command(Path::new("/bin/bash"));
        command
            .args(["-euc", text])
            .current_dir(home)
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", ansible.display()))
            .env("PWD", home)
            .env("HOME", home)
            .env("ANSIBLE_HOME", home.join("a"))
            .env("ANSIBLE_COLLECTIONS_PATH", home.join("a/collections"))
            .env("ANSIBLE_NOCOLOR", "1")
            .env("LC_ALL", "C.UTF-8");
        command.stdin(Stdio::null()).output().expect("the commands start").into()
    }

    /// A playbook of the collection.
    pub fn play(&self, playbook: &str, arguments: &str) -> Output {
        self.sh(&format!("ansible-playbook -i inventory.ini sshd_mend.fleet.{playbook} {arguments}"))
    }

    /// What the report has written about its hosts.
    pub fn report(&self) -> serde_json::Value {
        let path = self.directory().join("sshd-mend-report.json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// A login from out here, with a connection of its own.
    pub fn logs_in(&self, address: &str) -> bool {
        let key = lab().join("login-key");
        let output = self.sh(&format!(
            "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=10 \
             -i {} root@{address} echo logged in || :",
            key.display()
        ));
        output.stdout == "logged in\n"
    }
}
