//! What is written becomes what is true, or an error that says what to do.

use super::*;

const SMPP: &str = r#"
[[provider]]
id = "carrier-a"
kind = "smpp"
address = "127.0.0.1:2775"
system_id = "postrider"
password = "s3cret"
binds = 2
window = 500
rate = "5000/s"
price = "0.045 CNY"
"#;

fn read(text: &str) -> Result<Loaded, ConfigError> {
    parse(Some((Path::new("postrider.toml"), text)), &[])
}

fn with(environment: &[(&str, &str)], text: &str) -> Result<Loaded, ConfigError> {
    let environment: Vec<_> = environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    parse(Some((Path::new("postrider.toml"), text)), &environment)
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let error = read(text).map(|loaded| loaded.settings).expect_err(expected).to_string();
    assert!(error.contains(expected), "{error:?} does not say {expected:?}");
}

#[test]
fn without_a_file_everything_has_its_default() {
    let settings = parse(None, &[]).unwrap().settings;
    assert_eq!(settings.grpc.listen.to_string(), "127.0.0.1:50051");
    assert_eq!(settings.metrics_listen.unwrap().to_string(), "127.0.0.1:9464");
    assert_eq!(settings.data_dir, Path::new("./postrider-data"));
    assert_eq!(settings.key_file, Path::new("./postrider-data/keys"));
    assert_eq!(settings.receipt_deadline, Duration::from_secs(72 * 3600));
    assert_eq!(settings.roles, Role::ALL);
    assert!(settings.embedded());
    assert_eq!(settings.expires_after[Class::Otp as usize], Duration::from_secs(600));
    let [provider] = &settings.providers[..] else { panic!("one provider") };
    assert!(matches!(provider.link, Link::Simulated(_)));
    assert_eq!(provider.kinds, crate::domain::job::Kind::ALL);
}

#[test]
fn a_provider_reads_as_documented() {
    let settings = read(SMPP).unwrap().settings;
    let [provider] = &settings.providers[..] else { panic!("one provider") };
    let Link::Smpp(smpp) = &provider.link else { panic!("smpp") };
    assert_eq!(provider.pool.as_str(), "default");
    assert_eq!(provider.rate.unwrap().to_string(), "5000/s");
    assert_eq!(provider.price.unwrap().to_string(), "0.045 CNY");
    assert_eq!((smpp.binds.get(), smpp.window.get(), smpp.password.reveal()), (2, 500, "s3cret"));
    assert_eq!((&*smpp.address, &*smpp.system_id), ("127.0.0.1:2775", "postrider"));
    assert!(provider.receipts && smpp.tls.is_none());
}

#[test]
fn the_environment_overrides_the_file() {
    let variables = [
        ("POSTRIDER_QUEUE_URL", "amqp://u:p@h:1/v"),
        ("POSTRIDER_QUEUE_LANE_FRAMES_MAX", "7"),
        ("POSTRIDER_GRPC_ALLOW_PLAINTEXT", "true"),
        ("POSTRIDER_ROLES", "record, dispatch, front, feed,receive"),
        ("POSTRIDER_SERVICE_HOST", "set by Kubernetes"),
    ];
    let settings =
        with(&variables, "[queue]\nurl = \"amqp://other\"\n[grpc]\nlisten = \"0.0.0.0:1\"").unwrap().settings;
    assert_eq!(settings.queue.url.unwrap().reveal(), "amqp://u:p@h:1/v");
    assert_eq!(settings.queue.lane_frames_max.get(), 7);
    assert_eq!(settings.roles, Role::ALL);
    let error = with(&[("POSTRIDER_QUEUE_LANE_FRAMES_MAX", "many")], "").unwrap_err().to_string();
    assert!(error.contains("POSTRIDER_QUEUE_LANE_FRAMES_MAX") && error.contains("whole number"), "{error}");
    let error = with(&[("POSTRIDER_QUEUE_URI", "x")], "").unwrap_err().to_string();
    assert_eq!(error, "unknown variable POSTRIDER_QUEUE_URI, did you mean `POSTRIDER_QUEUE_URL`?");
}

#[test]
fn unknown_settings_are_errors_with_a_suggestion() {
    refused("[grpc]\nlisen = \"x\"", "unknown setting `grpc.lisen`, did you mean `grpc.listen`?");
    refused("grace = \"5s\"", "unknown setting `grace`, did you mean `shutdown.grace`?");
    refused("[queues]\nurl = \"x\"", "unknown setting `queues`");
    refused("colour = \"blue\"", "unknown setting `colour`");
    refused(&SMPP.replace("system_id", "systemid"), "provider[0].systemid`, did you mean `system_id`?");
    refused("[provider]\nid = \"x\"", "[[provider]], with two brackets");
    refused(
        "[[provider]]\nkind = \"smmp\"",
        "\"smmp\" is none of smpp, twilio, aliyun-sms, tencent-sms, http, aliyun-voice, twilio-voice, asterisk, simulated-trunk, simulated, wechat, wecom",
    );
}

#[test]
fn values_are_checked() {
    refused("[grpc]\nlisten = \"localhost\"", "setting `grpc.listen`: not an address and port");
    refused("[grpc]\nlisten = 50051", "setting `grpc.listen`: invalid type: integer");
    refused("[shutdown]\ngrace = \"soon\"", "setting `shutdown.grace`: not a length of time");
    refused("[shutdown]\ngrace = \"1ms\"", "must be between 10ms and 10m");
    refused("[queue]\nlane_frames_max = 0", "must be between 1 and");
    refused("[queue]\nurl = \"http://h\"", "must start with amqp:// or amqps://");
    refused("[log]\nformat = \"xml\"", "\"xml\" is none of pretty, json");
    refused("roles = [\"back\"]", "\"back\" is none of front, dispatch, feed, record, receive");
    refused("roles = []", "must be set");
    refused(&SMPP.replace("5000/s", "5000"), "provider[carrier-a].rate`: a rate reads like");
    refused(&SMPP.replace(":2775", ""), "provider[carrier-a].address`: not a host and port");
    refused(&SMPP.replace("\"s3cret\"", "\"123456789\""), "has 9 bytes, the protocol allows 8");
    refused(&SMPP.replace("\"postrider\"", "\"\""), "provider[carrier-a].system_id`: must be set");
    let records = "[[provider]]\nid = \"cloud\"\nkind = \"aliyun-voice\"\naccess_key_id = \"LTAI5t\"\n\
                   access_key_secret = \"geheim\"\ncallback_token = \"a-secret-in-the-path\"\nrecord = true\n";
    refused(records, "provider[cloud].smart`: must be set: `record` is for calls of robots alone");
    refused(&SMPP.replace("\"carrier-a\"", "\"Carrier A\""), "may hold only a-z");
    refused(&format!("{SMPP}kinds = [\"call\"]"), "\"call\" is none of sms");
    let priced = |price: &str| SMPP.replace("0.045 CNY", price);
    refused(&priced("0.045"), "provider[carrier-a].price`: an amount of money reads like");
    refused(&priced("0.045 yuan"), "three capital letters");
    refused(&format!("{SMPP}tls = \"yes\""), "provider[0].tls`: invalid type: string");
    refused("[[provider]]\nid = \"s\"\nkind = \"simulated\"\nrefused = 1.5", "must be between 0 and 1");
    refused("grpc = 5", "unknown setting `grpc`");
    refused("[grpc", "postrider.toml is not TOML");
}

#[test]
fn extensions_lead_to_one_owner_each() {
    let extension = |provider: &str, number: &str, more: &str| {
        format!("\n[[extension]]\nprovider = \"{provider}\"\nnumber = \"{number}\"\ntenant = \"acme\"\n{more}\n")
    };
    let one = extension("carrier-a", "+1069001", "signature = \"Acme\"");
    let with = |more: &str| format!("{SMPP}{one}{more}");
    let found = read(&with(&extension("carrier-a", "1069002", "code = \"02\""))).unwrap().settings.extensions;
    let shown: Vec<_> = found.iter().map(|one| (&*one.number, &*one.code, &*one.signature)).collect();
    assert_eq!(shown, [("+1069001", "+1069001", "Acme"), ("1069002", "02", "")]);
    refused(&with(&extension("carrier-b", "1", "")), "extension[1].provider`: is no provider; there are carrier-a");
    refused(&with(&extension("carrier-a", "", "")), "extension[1].number`: must be set");
    refused(&with(&extension("carrier-a", "10 69", "")), "extension[1].number`: must be 1 to 20 letters and digits");
    refused(&with(&extension("carrier-a", "9", "code = \"+\"")), "extension[1].code`: must be 1 to 20");
    refused(&with(&extension("carrier-a", "1069001", "")), "extension[1].number`: is another extension's number");
    let same = extension("carrier-a", "1069009", "signature = \"Acme\"");
    refused(&with(&same), "extension[1].signature`: has an extension for the same tenant and signature");
    refused(&with(&extension("carrier-a", "7", "").replace("acme", "A!")), "extension[1].tenant`");
    refused(&with("[extension]\n"), "TOML");
}

#[test]
fn contradictions_are_named() {
    refused("[grpc]\nlisten = \"0.0.0.0:50051\"", "`grpc.allow_plaintext`");
    refused("[grpc]\ntls_cert = \"c.pem\"", "set both or none");
    refused("[metrics]\nlisten = \"127.0.0.1:50051\"", "`grpc.listen` and `metrics.listen`");
    refused("roles = [\"front\"]", "the embedded backends serve one process");
    let shared = "[queue]\nurl = \"amqp://h\"\n[limits]\nurl = \"redis://h\"\n[ledger]\nurl = \"postgres://h\"\n";
    refused(&format!("roles = [\"front\"]\n{shared}"), "`seal.key_file`");
    assert!(read(&format!("roles = [\"front\"]\n{shared}[seal]\nkey_file = \"k\"")).is_ok());
    refused("[shutdown]\nlame_duck = \"30s\"", "`shutdown.lame_duck`");
    refused(&format!("[shutdown]\ngrace = \"19s\"\n{SMPP}"), "`response_timeout` of provider `carrier-a`");
    refused(&format!("{SMPP}{SMPP}"), "two providers have the id `carrier-a`");
    refused(&format!("{SMPP}[[provider]]\nid = \"s\"\nkind = \"simulated\""), "providers of pool `default`");
    refused(&format!("{SMPP}password_env = \"P\""), "more than one of");
    let other = "[[provider]]\nid = \"s\"\nkind = \"simulated\"\nkinds = [\"sms\"]\nprice = \"0.01 USD\"";
    refused(&format!("{SMPP}{other}"), "prices in different currencies");
    refused(&format!("{SMPP}tls_name = \"n\""), "`tls` is false");
}

#[test]
fn passwords_come_from_files_and_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "from-f\n").unwrap();
    let password = |settings: Settings| match &settings.providers[0].link {
        Link::Smpp(smpp) => smpp.password.reveal().to_owned(),
        _ => panic!("smpp"),
    };
    let from_file = SMPP.replace("password = \"s3cret\"", &format!("password_file = {:?}", file.to_str().unwrap()));
    assert_eq!(password(read(&from_file).unwrap().settings), "from-f");
    let from_env = SMPP.replace("password = \"s3cret\"", "password_env = \"CARRIER\"");
    assert_eq!(password(with(&[("CARRIER", "from-e")], &from_env).unwrap().settings), "from-e");
    refused(&from_env, "the environment has no variable CARRIER");
    refused(&SMPP.replace("password = \"s3cret\"", "password_file = \"/nowhere/p\""), "cannot read /nowhere/p");
}

#[test]
fn secrets_are_shown_nowhere() {
    let urls = "[queue]\nurl = \"amqp://user:pass@word@h:1/v\"\n[limits]\nurl = \"redis://:passwort@h\"\n\
                [ledger]\nurl = \"postgres://h/d?user=u&password=geheim\"\n";
    let loaded = read(&format!("{urls}{SMPP}")).unwrap();
    let shown = format!("{loaded:?}{:?}{}", loaded.settings, loaded.print());
    for secret in ["s3cret", "pass@word", "passwort", "geheim"] {
        assert!(!shown.contains(secret), "{secret} is shown in:\n{shown}");
    }
    assert!(loaded.print().contains("url = \"amqp://user:***@h:1/v\" # file"), "{}", loaded.print());
}

#[test]
fn what_is_printed_reads_back_as_the_same() {
    let shared = "[record]\nreceipt_deadline = \"60s\"\n";
    let printed = with(&[("POSTRIDER_LOG_LEVEL", "debug")], &format!("{shared}{SMPP}")).unwrap().print();
    assert!(printed.contains("level = \"debug\" # POSTRIDER_LOG_LEVEL\n"), "{printed}");
    assert!(printed.contains("receipt_deadline = \"60s\" # file\n"), "{printed}");
    assert!(printed.contains("publish_timeout = \"5s\" # default\n"), "{printed}");
    assert_eq!(read(&printed).unwrap().print().lines().count(), printed.lines().count());
}

#[test]
fn a_wecom_employee_is_one_and_has_an_end_to_the_time_to_confirm() {
    const WECOM: &str = "[[provider]]\nid = \"corp\"\nkind = \"wecom\"\nmessages = \"customers\"\ncorp_id = \"ww1\"\n\
                         agent_id = 1\nsecret = \"geheim\"\nsender = \"zhang.san@sales-1\"\n";
    read(WECOM).unwrap();
    for userid in ["@all", "zhang|li", "张三", "-zhang"] {
        let sender = format!("sender = \"{userid}\"");
        refused(&WECOM.replace("sender = \"zhang.san@sales-1\"", &sender), "provider[corp].sender`: may hold only");
        refused(&format!("{WECOM}escalate_to = \"{userid}\"\n"), "provider[corp].escalate_to`: may hold only");
    }
    refused(&format!("{WECOM}confirm_within = \"49h\"\n"), "must be between 1s and 2days");
    let both = |deadline: &str, within: &str| {
        format!("[record]\nreceipt_deadline = \"{deadline}\"\n{WECOM}confirm_within = \"{within}\"\n")
    };
    read(&both("5h 2m", "4h")).unwrap();
    refused(&both("5h 1m", "4h"), "`record.receipt_deadline` is shorter than `confirm_within`");
    read(&both("1m", "4h").replace("customers", "employees")).unwrap();
}

#[test]
fn every_setting_is_documented() {
    let table = reference()
        + &[
            "smpp",
            "twilio",
            "aliyun-sms",
            "tencent-sms",
            "http",
            "aliyun-voice",
            "twilio-voice",
            "asterisk",
            "simulated-trunk",
            "simulated",
            "wechat",
            "wecom",
        ]
        .map(provider_reference)
        .concat();
    for line in table.lines().filter(|line| line.starts_with("| `")) {
        let meaning = line.trim_end_matches(" |").rsplit("| ").next().unwrap_or_default();
        assert!(meaning.ends_with('.') && meaning.len() > 20, "not documented: {line}");
    }
    assert!(reference().contains("| `queue.url` | `POSTRIDER_QUEUE_URL` |  | RabbitMQ, as"), "{}", reference());
}

#[test]
fn shipped_windows_hold_until_they_are_replaced_or_switched_off() {
    let names = |text: &str| {
        let windows = read(text).unwrap().settings.windows;
        windows.rules.iter().map(|rule| (rule.name.to_string(), rule.hours.clone())).collect::<Vec<_>>()
    };
    let hours = |text: &str| text.parse::<crate::domain::window::Hours>().unwrap();
    let shipped = names("");
    assert_eq!(
        shipped.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["marketing-sms", "template", "call"]
    );
    assert_eq!(shipped[2].1, [hours("09:00-12:00"), hours("14:00-20:00")]);
    let replaced = names("[[window]]\nname = \"call\"\nkinds = [\"call\"]\nhours = [\"mon-fri 10:00-11:00 CN\"]");
    assert_eq!(replaced.len(), 3);
    assert_eq!(replaced[2], ("call".into(), vec![hours("mon-fri 10:00-11:00 CN")]));
    assert!(names("[windows]\ndefaults = \"none\"").is_empty());
    let shown =
        read("[windows]\ndefaults = \"none\"\n[[window]]\nname = \"x\"\nhours = [\"08:00-09:00\"]").unwrap().print();
    assert!(
        shown.contains("[[window]] # file\nname = \"x\"\n")
            || shown.contains("hours = [\"08:00-09:00\"]\nname = \"x\""),
        "{shown}"
    );
}

#[test]
fn a_window_that_could_never_open_is_refused() {
    let window = |more: &str| format!("[[window]]\nname = \"x\"\n{more}\n");
    refused(&window(""), "hours");
    refused(&window("hours = []"), "setting `window.x.hours`: must hold at least one");
    refused(&window("hours = [\"20:00-08:00\"]"), "setting `window.x.hours`: has no hours");
    refused(&window("hours = [\"08:00-24:30\"]"), "1440");
    refused(&window("hours = [\"monday 08:00-20:00\"]"), "is not written like");
    refused(&window("hours = [\"08:00-20:00 DE\"]"), "the calendar \"DE\"");
    refused(&window("hours = [\"08:00-20:00\"]\nclasses = [\"promotion\"]"), "none of otp, transactional");
    refused(&window("hours = [\"08:00-20:00\"]\nholidays = \"CN\""), "holidays");
    refused(&(window("hours = [\"08:00-20:00\"]") + &window("hours = [\"08:00-20:00\"]")), "the name `x`");
    refused(&window("hours = [\"20:00-22:00\"]"), "the send windows `marketing-sms` and `x` bind");
    refused("[windows]\ndefaults = \"some\"", "setting `windows.defaults`: \"some\" is none of shipped, none");
    refused("[windows]\ncalendars = [\"/nowhere/DE.toml\"]", "cannot read /nowhere/DE.toml");
}

const CAPS: &str = r#"
[[cap]]
name = "daily"
classes = ["marketing"]
limit = 2
window = "calendar day"

[[cap]]
tenant = "acme"
preset = "tencent-sms"
senders = ["Acme"]
mode = "shadow"
"#;

#[test]
fn caps_read_as_documented() {
    use crate::domain::cap::{CalendarUnit, Mode, Window};
    let caps = read(CAPS).unwrap().settings.caps;
    let [daily, gap, day] = &caps[..] else { panic!("{caps:?}") };
    assert_eq!((daily.tenant.as_ref(), daily.rule.limit), (None, 2));
    assert_eq!(daily.rule.window, Window::Calendar(CalendarUnit::Day));
    assert_eq!(daily.rule.classes, [Class::Marketing]);
    assert_eq!(gap.tenant.as_ref().unwrap().as_str(), "acme");
    assert_eq!(
        (gap.rule.name.as_str(), gap.rule.mode, &*gap.rule.senders[0]),
        ("tencent-sms-gap", Mode::Shadow, "Acme")
    );
    assert_eq!(day.rule.name.as_str(), "tencent-sms-day");
    assert_eq!(super::caps(Path::new("x.toml"), CAPS).unwrap(), caps, "alone as well as with the rest");
    assert!(read(CAPS).unwrap().print().contains("window = \"calendar day\" # file"));
}

#[test]
fn caps_that_cannot_be_are_named() {
    let daily = |more: &str| format!("[[cap]]\nname = \"daily\"\nlimit = 2\nwindow = \"24h\"\n{more}\n");
    refused(&daily("").replace("daily", ""), "cap[0].name");
    refused(&daily("").replace("limit = 2", ""), "cap[0].limit");
    refused(&daily("").replace("2\n", "201\n"), "cap[0].limit");
    refused(&daily("").replace("24h", "daily"), "calendar day");
    refused(&daily("").replace("24h", "40d"), "cap[0].window");
    refused(&daily("").replace("24h", "gap 4h"), "must be 1");
    refused(&daily("reserve = 2"), "could never pass");
    refused(&daily("classes = [\"spam\"]"), "cap[0].classes");
    refused(&daily("topics = [\"\"]"), "cap[0].topics");
    refused(&daily("tenant = \"A\""), "cap[0].tenant");
    refused(&daily("preset = \"aliyun-sms\""), "beside `preset`");
    refused("[[cap]]\npreset = \"aliyun\"\n", "aliyun-sms");
    refused(&daily("limits = 3"), "limit");
    refused("[cap]\nname = \"daily\"\n", "[[cap]]");
    refused(&format!("{}{}", daily(""), daily("tenant = \"acme\"")), "have the name `daily`");
    assert!(read(&format!("{}{}", daily("tenant = \"bolt\""), daily("tenant = \"acme\""))).is_ok());
    let many: String = (0..17).map(|n| daily("").replace("daily", &format!("n{n}"))).collect();
    refused(&many, "more than 16 caps");
}

#[test]
fn calls_that_ask_what_to_say_need_a_number_and_a_way_to_ask_this_process() {
    let account =
        "[[provider]]\nid = \"calls\"\nkind = \"twilio-voice\"\naccount_sid = \"AC1\"\nauth_token = \"geheim\"\n";
    let numbers = "callers = [\"+15005550006\"]\n";
    let receive = "[receive]\npublic_url = \"https://callbacks.example.com\"\n";
    refused(
        &format!("{receive}{account}"),
        "setting `provider[calls].callers`: must be set: at least one number of the account",
    );
    refused(&format!("{receive}{account}callers = [\"02085550100\"]\n"), "numbers with `+` and their country");
    refused(&format!("{account}{numbers}"), "set `receive.public_url`");
    let media = "media_url = \"ftp://media.example.com\"\n";
    refused(&format!("{receive}{account}{numbers}{media}"), "setting `provider[calls].media_url`");
    let split = "roles = [\"front\", \"dispatch\", \"feed\", \"record\"]\n[queue]\nurl = \"amqp://x\"\n[limits]\nurl = \"redis://x\"\n\
                 [ledger]\nurl = \"postgres://x\"\n[seal]\nkey_file = \"keys\"\n";
    refused(&format!("{split}{receive}{account}{numbers}"), "give the role `receive` to each process");
    let read = read(&format!("{receive}{account}{numbers}")).unwrap().settings;
    assert!(read.providers[0].link.converses() && read.callbacks_of(&read.providers[0]));
}

#[test]
fn consents_of_one_account_are_counted_for_one_tenant() {
    let account = |id: &str, more: &str| {
        format!(
            "[[provider]]\nid = \"{id}\"\nkind = \"wechat\"\nappid = \"wx1\"\nsecret = \"geheim\"\nmessages = \"subscribe\"\n\
             callback_token = \"token\"\naes_key = \"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG\"\n{more}\n"
        )
    };
    let counted = account("news", "consents = \"counted\"");
    let other = "tenant = \"acme\"";
    refused(
        &format!("{}{counted}", account("notices", other)),
        "`news` and `notices` are one account of different tenants",
    );
    assert!(read(&format!("{counted}{}", account("notices", ""))).is_ok());
    assert!(read(&format!("{}{}", account("news", ""), account("notices", other))).is_ok());
    assert!(read(&format!("{counted}{}", account("notices", other).replace("wx1", "wx2"))).is_ok());
}
