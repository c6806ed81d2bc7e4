//! Providers from the settings: their channels, and their places in the pools.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Base, SharedLimits, StartError};
use crate::api::{ProviderEntry, ProviderWorks};
use crate::channel::call;
use crate::channel::call::asterisk::{self, Asterisk};
use crate::channel::call::twilio::Switchboard;
use crate::channel::callback::Callbacks;
use crate::channel::http::client::Client;
use crate::channel::login::Login;
use crate::channel::simulated::{self, Simulated};
use crate::channel::sms::aliyun::{self, Aliyun};
use crate::channel::sms::cloud::{self, Api, Cloud};
use crate::channel::sms::custom::{self, Custom};
use crate::channel::sms::smpp::{self, Smpp};
use crate::channel::sms::tencent::{self, Tencent};
use crate::channel::sms::text::{self, Manner, Style};
use crate::channel::sms::twilio::{self, Twilio};
use crate::channel::template::token::{Alone, Vault};
use crate::channel::template::wechat::{self, Wechat};
use crate::channel::template::wecom::customers::Customers;
use crate::channel::template::wecom::watch::{Needs, Watch};
use crate::channel::template::wecom::welcome::Welcome;
use crate::channel::template::wecom::{self, Wecom};
use crate::channel::{Channel, Inbound, Profile};
use crate::config::{self, Counting, Link, Messages, Provider, Settings, To};
use crate::dialer::{CallerRule, Lines, TrunkRules};
use crate::dispatch::{self, Gate, Gates};
use crate::domain::call::Skill;
use crate::domain::ids::{PoolId, ProviderId};
use crate::domain::job::Kind;
use crate::domain::time::Clock;
use crate::limits::Counted;
use crate::policy::routes::Member;
use crate::receipt::Desks;
use crate::shutdown::Tasks;

/// How often a provider's health is shown in the metrics.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// Returns every provider's place among the pools.
pub(super) fn members(settings: &Settings) -> Vec<Member> {
    let member = |provider: &Provider| Member {
        pool: provider.pool.clone(),
        kinds: provider.kinds.clone(),
        rate: provider.rate,
        price: provider.price,
        counting: match &provider.link {
            Link::Smpp(link) => link.counting,
            Link::Aliyun(_) | Link::Tencent(_) => Counting::CnDomestic,
            Link::Twilio(_)
            | Link::Custom(_)
            | Link::AliyunVoice(_)
            | Link::TwilioVoice(_)
            | Link::Asterisk(_)
            | Link::SimulatedTrunk(_)
            | Link::Simulated(_)
            | Link::Wechat(_)
            | Link::Wecom(_) => Counting::GsmIntl,
        },
        skills: skills(&provider.link),
        notices_only: matches!(&provider.link, Link::Wechat(link) if link.messages == Messages::Template),
        signature: match &provider.link {
            Link::Aliyun(link) => link.sign_name.clone(),
            Link::Tencent(link) => link.sign_name.clone(),
            Link::Smpp(_)
            | Link::Twilio(_)
            | Link::Custom(_)
            | Link::AliyunVoice(_)
            | Link::TwilioVoice(_)
            | Link::Asterisk(_)
            | Link::SimulatedTrunk(_)
            | Link::Simulated(_)
            | Link::Wechat(_)
            | Link::Wecom(_) => "".into(),
        },
    };
    settings.providers.iter().map(member).collect()
}

/// Returns what a provider can do in calls, if it makes any.
fn skills(link: &Link) -> Vec<Skill> {
    let with = |transfer: bool, play: bool| {
        let more = [transfer.then_some(Skill::Transfer), play.then_some(Skill::Play)];
        std::iter::once(Skill::Flow).chain(more.into_iter().flatten()).collect()
    };
    match link {
        Link::Asterisk(link) => with(!link.transfer.is_empty(), true),
        Link::TwilioVoice(link) => with(link.transfer, !link.media_url.is_empty()),
        Link::SimulatedTrunk(_) => with(true, true),
        // Whatever it is given, it reaches nobody.
        Link::Simulated(_) => Skill::ALL.into(),
        // Says a text, or what is set up at the cloud.
        Link::AliyunVoice(_)
        | Link::Smpp(_)
        | Link::Twilio(_)
        | Link::Aliyun(_)
        | Link::Tencent(_)
        | Link::Custom(_)
        | Link::Wechat(_)
        | Link::Wecom(_) => vec![],
    }
}

/// Returns the accounts whose one-time consents are counted.
pub(super) fn counted(settings: &Settings) -> Counted {
    let counted = settings.providers.iter().filter_map(|provider| {
        let Link::Wechat(link) = &provider.link else { return None };
        (link.consents == config::Consents::Counted).then(|| (link.tenant.clone(), link.appid.clone()))
    });
    Counted::new(counted)
}

/// Returns how each pool counts the segments of a text: as the first of its providers does.
pub(super) fn manners(settings: &Settings) -> Vec<(PoolId, Manner)> {
    let domestic = |signature: &str| Manner {
        style: Style { counting: text::Counting::CnDomestic, ..Style::default() },
        signature: Some(signature.into()),
    };
    let manner = |provider: &Provider| {
        let manner = match &provider.link {
            Link::Smpp(link) => Manner { style: smpp::style(link), signature: None },
            Link::Aliyun(link) => domestic(&link.sign_name),
            Link::Tencent(link) => domestic(&link.sign_name),
            Link::Twilio(_)
            | Link::Custom(_)
            | Link::AliyunVoice(_)
            | Link::TwilioVoice(_)
            | Link::Asterisk(_)
            | Link::SimulatedTrunk(_)
            | Link::Simulated(_)
            | Link::Wechat(_)
            | Link::Wecom(_) => Manner::default(),
        };
        (provider.pool.clone(), manner)
    };
    settings.providers.iter().filter(|provider| provider.kinds.contains(&Kind::Sms)).map(manner).collect()
}

/// The providers as they run.
pub(super) struct Started {
    /// The gates of their pools.
    pub(super) gates: Gates<SharedLimits>,
    /// What the API lists.
    pub(super) entries: Vec<ProviderEntry>,
}

/// Returns what the API lists where no provider is started.
pub(super) fn listed(settings: &Settings) -> Vec<ProviderEntry> {
    settings.providers.iter().map(|provider| entry(provider, None)).collect()
}

fn entry(provider: &Provider, works: Option<ProviderWorks>) -> ProviderEntry {
    ProviderEntry {
        profile: profile(provider),
        protocol: protocol(&provider.link).into(),
        pool: provider.pool.clone(),
        works,
    }
}

fn profile(provider: &Provider) -> Profile {
    Profile {
        id: provider.id.clone(),
        kinds: provider.kinds.clone(),
        response_timeout: provider.response_timeout,
        price: provider.price,
        confirmed: matches!(&provider.link, Link::Wecom(link) if link.messages == To::Customers),
    }
}

/// Starts every provider.
pub(super) fn start(base: &Base, inbox: &mpsc::Sender<Inbound>) -> Result<Started, StartError> {
    let mut entries = Vec::new();
    let mut pools: hashbrown::HashMap<_, Vec<_>> = hashbrown::HashMap::new();
    for provider in &base.settings.providers {
        let channel = channel(base, provider, inbox.clone())?;
        let lines = lines(provider, &base.clock);
        // Lines have a pace of their own, which no token is taken for in vain.
        let rate = provider.rate.filter(|_| lines.is_none());
        let working = dispatch::Provider::new(
            (profile(provider), provider.in_pool),
            Arc::clone(&channel),
            rate,
            base.directory.clone(),
            base.clock.now(),
        );
        let working = Arc::new(working.with_lines(lines));
        let (seen, clock) = (Arc::clone(&working), base.clock.clone());
        let breaker = Arc::new(move || seen.breaker(clock.now()));
        entries.push(entry(provider, Some(ProviderWorks { channel, breaker })));
        pools.entry(provider.pool.clone()).or_default().push(working);
    }
    let all: Vec<_> = pools.values().flatten().cloned().collect();
    let (clock, stop) = (base.clock.clone(), base.groups.backends.stop().clone());
    base.groups.backends.spawn("provider_health", async move {
        while stop.run_until_cancelled(clock.pause(SHOW_EVERY)).await.is_some() {
            all.iter().for_each(|provider| provider.show(clock.now()));
        }
    });
    let gate = |providers| Arc::new(Gate::new(providers, base.pacer.clone(), base.clock.clone()));
    let gates = pools.into_iter().map(|(pool, providers)| (pool, gate(providers))).collect();
    Ok(Started { gates, entries })
}

fn protocol(link: &Link) -> &'static str {
    match link {
        Link::Smpp(_) => "smpp",
        Link::Twilio(_) => "twilio",
        Link::Aliyun(_) => "aliyun-sms",
        Link::Tencent(_) => "tencent-sms",
        Link::Custom(_) => "http",
        Link::AliyunVoice(_) => "aliyun-voice",
        Link::TwilioVoice(_) => "twilio-voice",
        Link::Asterisk(_) => "asterisk",
        Link::SimulatedTrunk(_) => "simulated-trunk",
        Link::Simulated(_) => "simulated",
        Link::Wechat(_) => "wechat",
        Link::Wecom(_) => "wecom",
    }
}

/// How a provider is reached.
enum Way<'a> {
    Smpp(&'a config::Smpp),
    Cloud(Box<dyn Api>, &'a config::Api),
    TwilioVoice(&'a config::TwilioVoice, Option<String>),
    Asterisk(&'a config::Asterisk),
    SimulatedTrunk(&'a config::SimulatedTrunk),
    Simulated(&'a config::Simulated),
}

fn way<'a>(settings: &Settings, provider: &'a Provider, (vault, clock): (Arc<dyn Vault>, &Clock)) -> Way<'a> {
    let (callback, receipts) = (callback(settings, provider), provider.receipts);
    match &provider.link {
        Link::Smpp(link) => Way::Smpp(link),
        Link::Twilio(link) => {
            Way::Cloud(Box::new(Twilio::new(link, callback.filter(|_| receipts).as_deref())), &link.api)
        }
        Link::Aliyun(link) => Way::Cloud(Box::new(Aliyun::new(link.clone(), receipts)), &link.api),
        Link::Tencent(link) => Way::Cloud(Box::new(Tencent::new(link.clone(), receipts)), &link.api),
        Link::Custom(link) => {
            Way::Cloud(Box::new(Custom::new((**link).clone(), callback.as_deref(), receipts)), &link.api)
        }
        Link::Wechat(link) => Way::Cloud(Box::new(Wechat::new(link.clone(), receipts, vault, clock)), &link.api),
        Link::Wecom(link) => {
            let api: Box<dyn Api> = match link.messages {
                To::Employees => Box::new(Wecom::new(link.clone(), vault, clock)),
                To::Customers => Box::new(Customers::new(link.clone(), vault, clock)),
                To::Welcome => Box::new(Welcome::new(link.clone(), vault, clock)),
            };
            Way::Cloud(api, &link.api)
        }
        Link::AliyunVoice(link) => Way::Cloud(Box::new(call::aliyun::Aliyun::new((**link).clone())), &link.api),
        Link::TwilioVoice(link) => Way::TwilioVoice(link, callback),
        Link::Asterisk(link) => Way::Asterisk(link),
        Link::SimulatedTrunk(link) => Way::SimulatedTrunk(link),
        Link::Simulated(link) => Way::Simulated(link),
    }
}

fn channel(base: &Base, provider: &Provider, inbox: mpsc::Sender<Inbound>) -> Result<Arc<dyn Channel>, StartError> {
    let (tasks, clock) = (&base.groups.channels, &base.clock);
    match way(&base.settings, provider, (base.vault(), clock)) {
        Way::Smpp(link) => {
            let settings = smpp::Settings::of(provider, link).map_err(|error| wrong(provider, &error))?;
            let (smpp, binds) = (Smpp::start_idle(settings, inbox, tasks, clock), link.binds.get());
            base.share_binds(&provider.id, binds, Arc::clone(&smpp));
            Ok(smpp)
        }
        Way::Cloud(api, link) => {
            let client = client(provider, link, tasks, clock)?;
            if let Link::Wecom(link) = &provider.link
                && link.messages == To::Customers
            {
                let (client, vault, books) = (client.clone(), base.vault(), base.books());
                let needs = Needs { client, inbox, vault, books, limit: provider.response_timeout };
                Watch::start((provider.id.clone(), link.clone()), needs, tasks, clock);
            }
            Ok(cloud(base, provider, link, (api, client)))
        }
        Way::TwilioVoice(link, callback) => {
            let settings = call::twilio::Settings {
                provider: provider.id.clone(),
                link: link.clone(),
                // Without a URL the settings are refused.
                callback: callback.unwrap_or_default().into(),
                response_timeout: provider.response_timeout,
            };
            let client = client(provider, &link.account.api, tasks, clock)?;
            let board = base.switchboards.get(&provider.id).cloned().unwrap_or_default();
            Ok(Arc::new(call::twilio::Twilio::new(settings, client, board, inbox, (tasks, clock))))
        }
        Way::Asterisk(link) => {
            let speech_dir = link.speech_dir.clone().unwrap_or_else(|| base.settings.data_dir.join("speech"));
            let settings = exchange(provider, link, speech_dir);
            Ok(Asterisk::start(settings, inbox, tasks, clock).map_err(|error| wrong(provider, &error))?)
        }
        Way::SimulatedTrunk(link) => {
            let settings = call::simulated::Settings { provider: provider.id.clone(), link: link.clone() };
            Ok(Arc::new(call::simulated::Trunk::new(settings, inbox, tasks, clock)))
        }
        Way::Simulated(link) => {
            Ok(Arc::new(Simulated::spawn(simulated::Settings::of(provider, link), clock, tasks, inbox)))
        }
    }
}

/// Logs in at a provider and hands nothing over, within `limit`.
///
/// # Errors
/// Why it could not even be tried.
pub(super) async fn log_in(
    settings: &Settings,
    provider: &Provider,
    limit: Duration,
    (tasks, clock): (&Tasks, &Clock),
) -> Result<Login, StartError> {
    match way(settings, provider, (Arc::new(Alone), clock)) {
        Way::Smpp(link) => {
            let smpp = smpp::Settings::of(provider, link).map_err(|error| wrong(provider, &error))?;
            Ok(Smpp::log_in(&smpp::Settings { connect_timeout: limit, ..smpp }, clock).await)
        }
        Way::Cloud(api, link) => {
            let client = client(provider, link, tasks, clock)?;
            Ok(cloud::log_in(&*api, &client, limit, clock).await)
        }
        Way::TwilioVoice(link, _) => {
            let client = client(provider, &link.account.api, tasks, clock)?;
            Ok(call::twilio::log_in(link, &client, limit, clock).await)
        }
        Way::Asterisk(link) => Ok(asterisk::log_in(link, client(provider, &link.api, tasks, clock)?, limit).await),
        Way::SimulatedTrunk(_) | Way::Simulated(_) => Ok(Login::Good),
    }
}

fn client(provider: &Provider, link: &config::Api, tasks: &Tasks, clock: &Clock) -> Result<Client, StartError> {
    Client::new(&link.endpoint, link.ca.as_deref(), link.connections, tasks, clock)
        .map_err(|error| wrong(provider, &error))
}

fn exchange(provider: &Provider, link: &config::Asterisk, speech_dir: PathBuf) -> asterisk::Settings {
    let response_timeout = provider.response_timeout;
    asterisk::Settings { provider: provider.id.clone(), link: link.clone(), speech_dir, response_timeout }
}

/// Returns the lines that calls of a provider need, if they are ours.
fn lines(provider: &Provider, clock: &Clock) -> Option<Lines> {
    let link = match &provider.link {
        Link::Asterisk(link) => &link.carries,
        Link::TwilioVoice(link) => &link.carries,
        Link::SimulatedTrunk(link) => &link.carries,
        Link::Smpp(_)
        | Link::Twilio(_)
        | Link::Aliyun(_)
        | Link::Tencent(_)
        | Link::Custom(_)
        | Link::AliyunVoice(_)
        | Link::Simulated(_)
        | Link::Wechat(_)
        | Link::Wecom(_) => return None,
    };
    let caller = |(number, near): &(Box<str>, Box<str>)| CallerRule {
        number: number.clone(),
        near: near.clone(),
        lines: link.caller_lines,
        day_max: link.caller_day_max,
    };
    let rules = TrunkRules {
        lines: link.lines,
        lines_per_port: link.lines_per_port,
        calls_per_s: link.calls_per_s,
        tenant_lines: link.tenant_lines,
        campaign_lines: link.campaign_lines,
        callers: link.callers.iter().map(caller).collect(),
        caller_rest: link.caller_rest,
    };
    Some(Lines::new(rules, &provider.id, clock))
}

/// Starts the cloud that `provider` is.
fn cloud(
    base: &Base,
    provider: &Provider,
    link: &config::Api,
    (api, client): (Box<dyn Api>, Client),
) -> Arc<dyn Channel> {
    let (tasks, clock) = (&base.groups.channels, &base.clock);
    let settings = cloud::Settings {
        provider: provider.id.clone(),
        window: link.window,
        rate_per_s: provider.rate.map_or(0.0, |rate| f64::from(rate.per_s.get())),
        response_timeout: provider.response_timeout,
    };
    Arc::new(Cloud::new(api, client, settings, tasks, clock))
}

/// Returns the URL at which a provider reaches us, if that is known.
fn callback(settings: &Settings, provider: &Provider) -> Option<String> {
    let url = settings.receive.public_url.as_ref()?;
    let token = provider.link.callback_token().map(|token| format!("/{}", token.reveal())).unwrap_or_default();
    Some(format!("{url}/callback/{}{token}", provider.id))
}

/// The switchboards of the accounts whose calls ask what to say.
pub(super) type Switchboards = hashbrown::HashMap<ProviderId, Switchboard>;

/// Returns the switchboards, on which there are no calls yet.
pub(super) fn switchboards(settings: &Settings) -> Switchboards {
    let conversing = settings.providers.iter().filter(|provider| provider.link.converses());
    conversing.map(|provider| (provider.id.clone(), Switchboard::default())).collect()
}

/// Returns the parsers of all providers that call back.
pub(super) fn desks(settings: &Settings, boards: &Switchboards) -> Desks {
    let public_url = settings.receive.public_url.as_ref().map(ToString::to_string).unwrap_or_default();
    let desk = |provider: &Provider| -> Option<(_, Box<dyn Callbacks>)> {
        let id = provider.id.clone();
        let desk: Box<dyn Callbacks> = match &provider.link {
            Link::Twilio(link) if settings.callbacks_of(provider) => {
                Box::new(twilio::callback::Desk::new(id.clone(), &public_url, link.auth_token.clone()))
            }
            Link::Aliyun(link) => Box::new(aliyun::callback::Desk::new(id.clone(), link.callback_token.clone()?)),
            Link::AliyunVoice(link) => {
                Box::new(call::aliyun::callback::Desk::new(id.clone(), link.callback_token.clone()))
            }
            Link::TwilioVoice(link) if settings.callbacks_of(provider) => {
                let (token, board) = (link.account.auth_token.clone(), boards.get(&id).cloned().unwrap_or_default());
                Box::new(call::twilio::callback::Desk::new(id.clone(), &public_url, token, board))
            }
            Link::Tencent(link) => Box::new(tencent::callback::Desk::new(id.clone(), link.callback_token.clone()?)),
            Link::Custom(link) => Box::new(custom::Desk::new(id.clone(), link.callbacks.clone()?)),
            Link::Wechat(link) => Box::new(wechat::callback::Desk::new(id.clone(), link, link.callbacks.clone()?)),
            Link::Wecom(link) => Box::new(wecom::callback::Desk::new(id.clone(), link, link.callbacks.clone()?)),
            Link::Twilio(_)
            | Link::TwilioVoice(_)
            | Link::Smpp(_)
            | Link::Asterisk(_)
            | Link::SimulatedTrunk(_)
            | Link::Simulated(_) => return None,
        };
        Some((id, desk))
    };
    settings.providers.iter().filter_map(desk).collect()
}

fn wrong(provider: &Provider, error: &dyn std::error::Error) -> StartError {
    let reason = match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    StartError::Provider { id: provider.id.as_str().into(), reason: reason.into() }
}
