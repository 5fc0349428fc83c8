//! Network interfaces as sysfs shows them (sysfs-class-net in the kernel's Documentation/ABI).

use std::path::Path;

/// Where sysfs shows the interfaces of the host.
pub const CLASS: &str = "/sys/class/net";

/// The interface with this index is a VRF, or belongs to one: what arrives there reaches no socket that is bound to no
/// interface (net.ipv4.tcp_l3mdev_accept, ip-sysctl). True also if that cannot be told.
pub fn is_vrf(class: &Path, index: u32) -> bool {
    let says = |interface: &Path, line: &str| {
        std::fs::read_to_string(interface.join("uevent")).is_ok_and(|text| text.lines().any(|have| have == line))
    };
    let interfaces = std::fs::read_dir(class).into_iter().flatten().flatten().map(|entry| entry.path());
    let wanted = format!("IFINDEX={index}");
    let Some(interface) = interfaces.into_iter().find(|interface| says(interface, &wanted)) else { return true };
    let vrf = "DEVTYPE=vrf";
    says(&interface, vrf) || says(&interface.join("master"), vrf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn an_interface_of_a_vrf_is_told_from_others() {
        let class = tempfile::tempdir().expect("a directory");
        let class = class.path();
        for (name, index, kind) in [("lo", 1, ""), ("mgmt", 7, "DEVTYPE=vrf\n"), ("br0", 8, "DEVTYPE=bridge\n")] {
            std::fs::create_dir(class.join(name)).expect("a directory");
            let text = format!("{kind}INTERFACE={name}\nIFINDEX={index}\n");
            std::fs::write(class.join(name).join("uevent"), text).expect("a file");
        }
        for (name, index, master) in [("eth1", 9, "mgmt"), ("eth2", 17, "br0")] {
            std::fs::create_dir(class.join(name)).expect("a directory");
            std::fs::write(class.join(name).join("uevent"), format!("INTERFACE={name}\nIFINDEX={index}\n"))
                .expect("a file");
            symlink(class.join(master), class.join(name).join("master")).expect("a link");
        }
        let told: Vec<bool> = [1, 7, 8, 9, 17, 2].iter().map(|index| is_vrf(class, *index)).collect();
        assert_eq!(told, [false, true, false, true, false, true], "lo, mgmt, br0, eth1, eth2, none of them");
    }

    #[test]
    fn loopback_is_none() {
        assert!(!is_vrf(Path::new(CLASS), 1));
    }
}
