//! Users, groups, sudo rules and the SSH server.

use super::entry::{Account, Additions, OverlayGroup, OverlayUser, UNITS};
use fleeti_core::profile::{Profile, Ssh, SudoRule};

pub(super) fn add(profile: &Profile, out: &mut Additions) {
    let mut homes = String::new();
    for user in &profile.users {
        homes.push_str(&format!("d /var/home/{0} 0700 {0} {0} -\n", user.name));
        if !user.ssh_keys.is_empty() {
            let keys = user.ssh_keys.iter().map(|k| format!("{k}\n")).collect::<String>();
            out.text(&format!("/etc/ssh/authorized_keys/{}", user.name), 0o644, keys);
        }
        out.users.push(OverlayUser {
            name: user.name.clone(),
            id: user.id,
            comment: user.comment.clone(),
            shell: user.shell.clone(),
            groups: user.groups.clone(),
            password_hash: user.password_hash.clone(),
            expires: user.expires.clone(),
        });
    }
    out.text("/usr/lib/tmpfiles.d/fleeti.conf", 0o644, homes);
    for group in &profile.groups {
        out.groups.push(OverlayGroup { name: group.name.clone(), id: group.id });
    }
    for (i, rule) in profile.sudo.iter().enumerate() {
        out.text(&format!("/etc/sudoers.d/60-{}", rule.name), 0o440, sudoers(rule));
        for (g, group) in rule.groups.iter().enumerate() {
            out.need(format!("sudo[{i}].groups[{g}]"), Account::Group, group);
        }
        out.need(format!("sudo[{i}].run_as"), Account::User, &rule.run_as);
    }
    if profile.software.packages.iter().any(|p| p == "openssh-server") {
        ssh_server(&profile.security.ssh, out);
    }
}

/// One line of sudoers(5).
fn sudoers(rule: &SudoRule) -> String {
    let groups = rule.groups.iter().map(|group| format!("%{group}"));
    let who: Vec<_> = rule.users.iter().cloned().chain(groups).collect();
    let tag = if rule.no_password { "NOPASSWD" } else { "PASSWD" };
    format!("{} ALL=({}) {tag}: {}\n", who.join(","), rule.run_as, rule.commands.join(", "))
}

fn ssh_server(ssh: &Ssh, out: &mut Additions) {
    let own = include_str!("../../nix/overlay/20-fleeti-sshd.conf");
    out.text("/etc/ssh/sshd_config.d/20-fleeti.conf", 0o644, own);
    let keys = include_str!("../../nix/overlay/fleeti-ssh-keys.service");
    out.text(&format!("{UNITS}/fleeti-ssh-keys.service"), 0o644, keys);
    out.text("/etc/ssh/sshd_config.d/30-fleeti-profile.conf", 0o644, sshd_config(ssh));
    for (i, group) in ssh.allow_groups.iter().enumerate() {
        out.need(format!("security.ssh.allow_groups[{i}]"), Account::Group, group);
    }
}

/// Settings of sshd_config(5). The first value of a setting counts, so Debian's own file does not
/// replace them.
fn sshd_config(ssh: &Ssh) -> String {
    let yes = |is_on| if is_on { "yes" } else { "no" };
    let mut text = format!(
        "PasswordAuthentication {}\nKbdInteractiveAuthentication no\nMaxAuthTries {}\n\
         AllowTcpForwarding {forwarding}\nAllowAgentForwarding {forwarding}\n\
         AllowStreamLocalForwarding {forwarding}\nX11Forwarding no\n",
        yes(ssh.password_login),
        ssh.attempts_max,
        forwarding = yes(ssh.forwarding),
    );
    if !ssh.allow_groups.is_empty() {
        let groups: Vec<_> = ssh.allow_groups.iter().map(String::as_str).collect();
        text.push_str(&format!("AllowGroups {}\n", groups.join(" ")));
    }
    if ssh.idle_timeout_s > 0 {
        // The client's keepalive messages do not count as traffic of a channel.
        text.push_str(&format!(
            "ChannelTimeout session={0}\nUnusedConnectionTimeout {0}\n",
            ssh.idle_timeout_s
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::sample;

    const SUDO: &str = "software.packages = [\"sudo\"]\n[[users]]\nname = \"ops\"\nid = 2000\n\
                        expires = \"2027-12-31\"\n[[groups]]\nname = \"sensors\"\nid = 3000\n\
                        [[sudo]]\nname = \"restart\"\nusers = [\"ops\"]\ngroups = [\"adm\"]\n\
                        commands = [\"/usr/bin/systemctl restart web.service\", \"/usr/bin/true\"]\n\
                        run_as = \"www-data\"\nno_password = true\n\
                        [[sudo]]\nname = \"all\"\nusers = [\"ops\"]\ncommands = [\"ALL\"]\n";

    #[test]
    fn a_user_has_its_id_and_the_last_day_of_its_account() {
        let o = sample::overlay(SUDO);
        let user = &o.json["users"][0];
        assert_eq!((&user["id"], &user["expires"]), (&2000.into(), &"2027-12-31".into()));
        assert_eq!(o.json["groups"], serde_json::json!([{ "name": "sensors", "id": 3000 }]));
    }

    #[test]
    fn each_sudo_rule_is_a_file_that_only_root_can_read() {
        let o = sample::overlay(SUDO);
        assert_eq!(
            o.text("/etc/sudoers.d/60-restart"),
            "ops,%adm ALL=(www-data) NOPASSWD: /usr/bin/systemctl restart web.service, \
             /usr/bin/true\n"
        );
        assert_eq!(o.text("/etc/sudoers.d/60-all"), "ops ALL=(root) PASSWD: ALL\n");
        assert_eq!(o.entry("/etc/sudoers.d/60-all")["mode"], "0440");
        let needs = o.json["needs"].to_string();
        assert!(needs.contains(r#"{"field":"sudo[0].groups[0]","kind":"group","name":"adm"}"#));
        assert!(needs.contains(r#"{"field":"sudo[0].run_as","kind":"user","name":"www-data"}"#));
    }

    #[test]
    fn the_ssh_server_follows_the_profile() {
        let o = sample::overlay(
            "software.packages = [\"openssh-server\"]\n[security.ssh]\nallow_groups = [\"adm\"]\n\
             forwarding = false\nidle_timeout_s = 900\nattempts_max = 3\n",
        );
        assert_eq!(
            o.text("/etc/ssh/sshd_config.d/30-fleeti-profile.conf"),
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxAuthTries 3\n\
             AllowTcpForwarding no\nAllowAgentForwarding no\nAllowStreamLocalForwarding no\n\
             X11Forwarding no\nAllowGroups adm\nChannelTimeout session=900\n\
             UnusedConnectionTimeout 900\n"
        );
        let plain = sample::overlay("");
        assert!(plain.find("/etc/ssh/sshd_config.d/30-fleeti-profile.conf").is_none());
    }
}
