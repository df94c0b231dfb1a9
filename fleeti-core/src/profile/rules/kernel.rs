//! Rules for the kernel.

use super::Sink;
use crate::command_line;
use crate::profile::{Flavour, Profile};

/// Longest kernel arguments of a profile in total, bytes. Together with those that Fleeti sets,
/// they stay below the kernel's limit.
const ARGUMENTS_MAX: usize = 1024;

/// The component of Debian's archive that firmware is in.
const FIRMWARE_COMPONENT: &str = "non-free-firmware";

/// Settings that would weaken what Fleeti proves, or stop its agent.
const SYSCTL_RESERVED: &[&str] =
    &["kernel.modprobe", "kernel.hotplug", "kernel.kexec_load_disabled"];

pub(super) fn check(profile: &Profile, sink: &mut Sink) {
    arguments(profile, sink);
    if profile.kernel.flavour == Flavour::Cloud && !profile.hardware.initrd_drivers.is_empty() {
        let remedy = "set kernel.flavour = \"generic\", or remove the drivers";
        sink.say("hardware.initrd_drivers", "are not in the kernel for virtual machines", remedy);
    }
    firmware(profile, sink);
    let kernel = &profile.kernel;
    for (list, modules) in [("modules", &kernel.modules), ("blacklist", &kernel.blacklist)] {
        for (i, module) in modules.iter().enumerate() {
            let is_module = (1..=64).contains(&module.len())
                && module.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            if !is_module {
                let remedy = "write its name without path and suffix";
                sink.say(format!("kernel.{list}[{i}]"), "is not a module name", remedy);
            }
        }
        super::unique(&format!("kernel.{list}"), "", modules.iter(), sink);
    }
    for (i, module) in kernel.modules.iter().enumerate() {
        if kernel.blacklist.contains(module) {
            let remedy = "remove it from one of the lists";
            sink.say(format!("kernel.modules[{i}]"), "is also in kernel.blacklist", remedy);
        }
    }
    for (name, value) in &kernel.sysctl {
        let path = format!("kernel.sysctl[\"{name}\"]");
        let is_name = name.contains(['.', '/'])
            && name.len() <= 128
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/*".contains(&b));
        if !is_name || !super::is_line(value, 256) {
            sink.say(path, "is not a setting of sysctl", "write \"net.ipv4.ip_forward\" = \"1\"");
        } else if SYSCTL_RESERVED.contains(&name.replace('/', ".").as_str()) {
            sink.say(path, "is reserved for the chain of trust", "remove the entry");
        }
    }
}

fn firmware(profile: &Profile, sink: &mut Sink) {
    let sets = &profile.hardware.firmware;
    if sets.is_empty() {
        return;
    }
    if profile.kernel.flavour == Flavour::Cloud {
        let remedy = "set kernel.flavour = \"generic\", or remove the firmware";
        sink.say("hardware.firmware", "is not for the kernel for virtual machines", remedy);
    }
    if !profile.software.components.iter().any(|component| component == FIRMWARE_COMPONENT) {
        let remedy = format!("add {FIRMWARE_COMPONENT} to software.components");
        let text = format!("needs the component {FIRMWARE_COMPONENT}");
        sink.say("hardware.firmware", text, remedy);
    }
    for (i, set) in sets.iter().enumerate() {
        if sets[..i].contains(set) {
            let path = format!("hardware.firmware[{i}]");
            sink.say(path, "is in the list twice", "remove one of the entries");
        }
    }
}

fn arguments(profile: &Profile, sink: &mut Sink) {
    let arguments = &profile.kernel.arguments;
    for (i, argument) in arguments.iter().enumerate() {
        let path = format!("kernel.arguments[{i}]");
        if let Err(e) = command_line::check_argument(argument) {
            sink.say(path.clone(), e.to_string(), e.remedy());
        }
        super::files::refuse_site_values(&path, argument, sink);
    }
    let bytes: usize = arguments.iter().map(|a| a.len() + 1).sum();
    if bytes > ARGUMENTS_MAX {
        let message = format!("{bytes} bytes, expected at most {ARGUMENTS_MAX}");
        sink.say("kernel.arguments", message, "shorten or remove arguments");
    }
}
