//! The HTTP proxy of the system's services.

use super::entry::{Additions, UNITS};
use super::text::word;
use fleeti_core::profile::Profile;

/// The proxy of services and logins, and the exception of Fleeti's own services.
pub(super) fn add(profile: &Profile, out: &mut Additions) {
    let proxy = &profile.network.proxy;
    let Some(url) = &proxy.url else { return };
    // Programs on the device that talk to it itself never go through the proxy.
    let mut except = vec!["localhost", "127.0.0.1", "::1"];
    except.extend(proxy.except.iter().map(String::as_str).filter(|e| !e.is_empty()));
    except.dedup();
    let except = except.join(",");
    let values = [("http_proxy", url), ("https_proxy", url), ("no_proxy", &except)];
    // Programs read one spelling or the other.
    let both: Vec<(String, &String)> = values
        .iter()
        .flat_map(|(name, value)| [((*name).to_owned(), *value), (name.to_uppercase(), *value)])
        .collect();
    let words: Vec<_> = both.iter().map(|(name, value)| word(&format!("{name}={value}"))).collect();
    out.text(
        "/usr/lib/systemd/system.conf.d/60-fleeti-proxy.conf",
        0o644,
        format!("[Manager]\nDefaultEnvironment={}\n", words.join(" ")),
    );
    let lines: String = both.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    out.text("/etc/environment", 0o644, lines);
    let names: Vec<_> = both.iter().map(|(name, _)| name.as_str()).collect();
    for unit in ["fleeti-agent", "fleeti-helper", "fleeti-health"] {
        out.text(
            &format!("{UNITS}/{unit}.service.d/10-proxy.conf"),
            0o644,
            // The agent has a proxy of its own, which is that of the device.
            format!("[Service]\nUnsetEnvironment={}\n", names.join(" ")),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;

    #[test]
    fn the_proxy_is_for_every_service_but_those_of_fleeti() {
        let o = sample::overlay(
            "[network.proxy]\nurl = \"http://proxy.example.com:3128/a%20b\"\n\
             except = [\".example.com\"]\n",
        );
        let text = o.text("/usr/lib/systemd/system.conf.d/60-fleeti-proxy.conf");
        assert!(text.contains("\"https_proxy=http://proxy.example.com:3128/a%%20b\""), "{text}");
        let text = o.text("/etc/environment");
        assert!(text.contains("no_proxy=localhost,127.0.0.1,::1,.example.com\n"), "{text}");
        assert!(text.contains("HTTPS_PROXY=http://proxy.example.com:3128/a%20b\n"), "{text}");
        let text = o.text("/usr/lib/systemd/system/fleeti-agent.service.d/10-proxy.conf");
        assert!(text.starts_with("[Service]\nUnsetEnvironment=http_proxy HTTP_PROXY "), "{text}");
    }
}
