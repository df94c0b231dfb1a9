//! Units, timers and containers of a profile.

use super::entry::{Additions, UNITS};
use super::text::{command_word, line, word};
use fleeti_core::profile::{Container, Profile, Service, Timer, UnitState};

pub(super) fn add(profile: &Profile, out: &mut Additions) {
    for s in &profile.services {
        service(s, out);
    }
    for t in &profile.timers {
        let name = t.service.replace(".service", ".timer");
        out.text(&format!("{UNITS}/{name}"), 0o644, timer(t));
        out.presets.push(format!("enable {name}"));
    }
    for c in &profile.containers {
        let path = format!("/etc/containers/systemd/{}.container", c.name);
        out.text(&path, 0o644, container(c));
    }
}

fn service(service: &Service, out: &mut Additions) {
    if let Some(unit) = &service.unit {
        out.text(&format!("{UNITS}/{}", service.name), 0o644, unit.clone());
    }
    for drop_in in &service.drop_ins {
        let path = format!("/etc/systemd/system/{}.d/{}.conf", service.name, drop_in.name);
        out.text(&path, 0o644, drop_in.text.clone());
    }
    let verb = match service.state {
        UnitState::Enabled => "enable",
        UnitState::Disabled | UnitState::Masked => "disable",
    };
    out.presets.push(format!("{verb} {}", service.name));
    if service.state == UnitState::Masked {
        out.link(&format!("/etc/systemd/system/{}", service.name), "/dev/null");
    }
}

/// The text of a timer (systemd.timer(5)).
fn timer(t: &Timer) -> String {
    let mut text = format!(
        "[Unit]\nDescription=Starts {}\n\n[Timer]\nUnit={}\nOnCalendar={}\n",
        t.service, t.service, t.on_calendar
    );
    if t.persistent {
        text.push_str("Persistent=yes\n");
    }
    if t.random_delay_s > 0 {
        text.push_str(&format!("RandomizedDelaySec={}\n", t.random_delay_s));
    }
    text + "\n[Install]\nWantedBy=timers.target\n"
}

/// The text of a Quadlet file (podman-systemd.unit(5)). Podman's generator makes the unit of it at
/// each boot.
fn container(c: &Container) -> String {
    let mut text = format!(
        "[Unit]\nDescription=Container {}\nWants=network-online.target\nAfter=network-online.target\n\n\
         [Container]\nContainerName={}\nImage={}\n",
        c.name,
        c.name,
        line(&c.image)
    );
    if !c.command.is_empty() {
        let words: Vec<_> = c.command.iter().map(|w| command_word(w)).collect();
        text.push_str(&format!("Exec={}\n", words.join(" ")));
    }
    for port in &c.ports {
        text.push_str(&format!("PublishPort={port}\n"));
    }
    for volume in &c.volumes {
        text.push_str(&format!("Volume={}\n", line(volume)));
    }
    for (name, value) in &c.environment {
        text.push_str(&format!("Environment={}\n", word(&format!("{name}={value}"))));
    }
    let read_only = if c.read_only { "yes" } else { "no" };
    text.push_str(&format!("ReadOnly={read_only}\n"));
    text + "\n[Service]\nRestart=always\n\n[Install]\nWantedBy=multi-user.target\n"
}

#[cfg(test)]
mod tests {
    use super::super::sample;

    #[test]
    fn a_timer_starts_its_service_and_is_enabled() {
        let o = sample::overlay(
            "[[services]]\nname = \"report.service\"\nstate = \"disabled\"\n\
             unit = \"[Service]\\nExecStart=/bin/true\\n\"\n[[timers]]\nservice = \"report.service\"\n\
             on_calendar = \"Mon..Fri 06:30\"\npersistent = true\nrandom_delay_s = 600\n",
        );
        assert_eq!(
            o.text("/usr/lib/systemd/system/report.timer"),
            "[Unit]\nDescription=Starts report.service\n\n[Timer]\nUnit=report.service\n\
             OnCalendar=Mon..Fri 06:30\nPersistent=yes\nRandomizedDelaySec=600\n\n\
             [Install]\nWantedBy=timers.target\n"
        );
        assert_eq!(
            o.text("/usr/lib/systemd/system-preset/01-fleeti-profile.preset"),
            "disable report.service\nenable report.timer\n"
        );
        // Its stamps persist, or a missed time would never be noticed.
        assert!(o.text("/usr/lib/systemd/system/var-lib-systemd-timers.mount").contains("[Mount]"));
    }

    #[test]
    fn a_unit_of_a_package_is_changed_by_drop_ins_or_masked() {
        let o = sample::overlay(
            "[[services]]\nname = \"cron.service\"\n\
             drop_ins = [{ name = \"memory\", text = \"[Service]\\nMemoryMax=512M\\n\" }]\n\
             [[services]]\nname = \"atd.service\"\nstate = \"masked\"\n",
        );
        let path = "/etc/systemd/system/cron.service.d/memory.conf";
        assert_eq!(o.text(path), "[Service]\nMemoryMax=512M\n");
        assert_eq!(o.entry("/etc/systemd/system/atd.service")["link"], "/dev/null");
        assert_eq!(
            o.text("/usr/lib/systemd/system-preset/01-fleeti-profile.preset"),
            "enable cron.service\ndisable atd.service\n"
        );
    }

    #[test]
    fn a_container_is_a_quadlet_file_whose_values_are_not_expanded() {
        let digest = "0".repeat(64);
        let o = sample::overlay(&format!(
            "software.packages = [\"podman\"]\n[[containers]]\nname = \"web\"\n\
             image = \"registry.example.com/web@sha256:{digest}\"\n\
             command = [\"--greeting\", \"50% $HOME\"]\nports = [\"8080:80\"]\n\
             volumes = [\"/var/lib/web:/data:ro\"]\nenvironment = {{ LOG = \"a \\\"b\\\"\" }}\n"
        ));
        assert_eq!(
            o.text("/etc/containers/systemd/web.container"),
            format!(
                "[Unit]\nDescription=Container web\nWants=network-online.target\n\
                 After=network-online.target\n\n\
                 [Container]\nContainerName=web\nImage=registry.example.com/web@sha256:{digest}\n\
                 Exec=\"--greeting\" \"50%% $$HOME\"\nPublishPort=8080:80\n\
                 Volume=/var/lib/web:/data:ro\nEnvironment=\"LOG=a \\\"b\\\"\"\nReadOnly=yes\n\n\
                 [Service]\nRestart=always\n\n[Install]\nWantedBy=multi-user.target\n"
            )
        );
    }
}
