"""Writes the dashboards beside it, as Grafana reads them: `python3 deploy/grafana/generate.py`.

With `--check` it writes nothing, and fails if a file is not what it would write.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent

# Every query looks at the processes that the variable `job` names.
JOB = 'job=~"$job"'
RATE = "[$__rate_interval]"
NOT_TAKEN = 'verdict!="taken"'


def series(metric, labels=""):
    return f"{metric}{{{JOB}{', ' + labels if labels else ''}}}"


def rate(metric, by="", labels=""):
    group = f" by ({by})" if by else ""
    return f"sum{group} (rate({series(metric, labels)}{RATE}))"


def quantile(share, metric, by="", labels=""):
    group = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({group}) (rate({series(metric + '_bucket', labels)}{RATE})))"


def quantiles(metric, by="", labels=""):
    legend = f"{{{{{by}}}}} " if by else ""
    return [(quantile(share, metric, by, labels), f"{legend}p{name}") for share, name in ((0.5, "50"), (0.99, "99"))]


def worst(metric, by=""):
    """A gauge that several processes show of the same thing."""
    return f"max by ({by}) ({series(metric)})" if by else f"max({series(metric)})"


def panel(title, unit, description, *targets, kind="timeseries", stack=False):
    return {
        "title": title,
        "unit": unit,
        "description": description,
        "targets": targets,
        "kind": kind,
        "stack": stack,
    }


def stat(title, unit, description, *targets):
    return panel(title, unit, description, *targets, kind="stat")


DASHBOARDS = {
    "overview": (
        "Postrider / Overview",
        "Rate, errors and duration of what is asked, and what becomes of it.",
        [
            stat("Accepted", "jobs/s", "Jobs accepted a second, over all processes.", (rate("postrider_jobs_accepted_total"), "")),
            stat("Finished", "jobs/s", "Jobs that reached their outcome, a second.", (rate("postrider_jobs_finished_total"), "")),
            stat(
                "Refused for our own reasons",
                "percentunit",
                "Share of the jobs that should have been accepted and were not: not durable, keys away, stopping. The objective is 0.1 %.",
                (
                    '{bad} / (clamp_min({ok} + {bad}, 1e-9))'.format(
                        bad=rate("postrider_jobs_refused_total", labels='reason=~"not_durable|keys_away|draining"'),
                        ok=rate("postrider_jobs_accepted_total"),
                    ),
                    "",
                ),
            ),
            stat("Processes", "short", "Processes that are scraped, by version.", (f'sum by (version) ({series("postrider_build_info")})', "{{version}}")),
            panel("Jobs accepted", "jobs/s", "By kind and class.", (rate("postrider_jobs_accepted_total", "kind, class") + " > 0", "{{kind}} {{class}}"), stack=True),
            panel("Jobs refused by reason", "jobs/s", "At the door. `invalid` and `quota` are the caller's, `not_durable`, `keys_away` and `draining` ours.", (rate("postrider_jobs_refused_total", "reason"), "{{reason}}"), stack=True),
            panel("Time to accept", "s", "From the call to the durable answer. The objective is 0.5 s for 99 %.", *quantiles("postrider_accept_seconds")),
            panel("Jobs by outcome", "jobs/s", "Each job reaches one outcome.", (rate("postrider_jobs_finished_total", "outcome") + " > 0", "{{outcome}}"), stack=True),
            panel("Opt-outs", "opt-outs/s", "By what they are for and where they came from.", (rate("postrider_optouts_total", "kind, source"), "{{kind}} by {{source}}")),
            panel("Opt-outs per outcome", "percentunit", "Opt-outs for each job that reached its outcome: what a campaign costs in people.", (f'{rate("postrider_optouts_total")} / clamp_min({rate("postrider_jobs_finished_total")}, 1e-9)', "share")),
        ],
    ),
    "pipeline": (
        "Postrider / Pipeline",
        "Where jobs wait, and for how long.",
        [
            panel("Lanes", "frames", "Frames that wait in each lane. A frame holds up to some hundred jobs; at `queue.lane_frames_max` jobs are refused.", (worst("postrider_lane_depth", "class, pool"), "{{class}}/{{pool}}")),
            panel("Agenda", "jobs", "Jobs that wait in the agenda for their time or their turn.", (worst("postrider_agenda_depth"), "jobs")),
            panel("Oldest work that is due", "s", "How long the first entry of the agenda has been due; 0 while nothing is late.", (worst("postrider_agenda_oldest_due_seconds"), "age")),
            panel("Jobs released", "jobs/s", "From the agenda or the timing wheel into a lane.", (rate("postrider_jobs_released_total", "class"), "{{class}}"), stack=True),
            panel("Lateness by class", "s", "From the due time to the provider's answer. The objective is 5 s for 99 % of the one-time passwords.", *quantiles("postrider_send_lag_seconds", "class")),
            panel("Time in queue", "s", "From the time a job was accepted or due, whichever is later, to its hand-over.", *quantiles("postrider_time_in_queue_seconds", "class")),
            panel("Frames accepted", "frames/s", "Frames published by admission.", (rate("postrider_frames_accepted_total"), "frames")),
            panel("Jobs per frame", "jobs", "The more share a frame, the less each costs.", (f'{rate("postrider_jobs_accepted_total")} / clamp_min({rate("postrider_frames_accepted_total")}, 1e-9)', "mean")),
            panel("Jobs put back to wait", "jobs/s", "By cap, window or cause.", (rate("postrider_jobs_deferred_total", "reason"), "{{reason}}"), stack=True),
            panel("Fallback steps", "jobs/s", "Steps of fallback chains that started, by the means they go.", (rate("postrider_fallback_steps_total", "kind"), "{{kind}}"), stack=True),
            panel("Repeated and astray", "jobs", "Unanswered hand-overs that were repeated, and jobs that were released again because nothing was heard of them, in the last hour.", (f'sum(increase({series("postrider_jobs_resent_total")}[1h]))', "repeated"), (f'sum(increase({series("postrider_strays_total")}[1h]))', "astray")),
        ],
    ),
    "providers": (
        "Postrider / Providers",
        "What each provider takes, answers and reports.",
        [
            panel("Up", "short", "Processes that reach the provider.", (f'sum by (provider) ({series("postrider_provider_up")})', "{{provider}}")),
            panel("Breaker", "short", "0 closed (work flows), 1 half open (one is tried), 2 open (nothing flows), in the worst process.", (worst("postrider_breaker_state", "provider"), "{{provider}}")),
            panel("Rate limit", "jobs/s", "Hand-overs a second that the provider is believed to carry now: learned from its throttling, up to its `rate`.", (worst("postrider_provider_rate_limit", "provider"), "{{provider}}")),
            panel("Window in use", "jobs", "Hand-overs that wait for the provider's answer, over all processes.", (f'sum by (provider) ({series("postrider_provider_window_in_use")})', "{{provider}}")),
            panel("Verdicts", "jobs/s", "How hand-overs ended.", (rate("postrider_attempts_total", "provider, verdict") + " > 0", "{{provider}} {{verdict}}"), stack=True),
            panel("Failed hand-overs", "percentunit", "Share of the hand-overs that the provider did not take.", (f'{rate("postrider_attempts_total", "provider", NOT_TAKEN)} / clamp_min({rate("postrider_attempts_total", "provider")}, 1e-9)', "{{provider}}")),
            panel("Time to answer", "s", "From the hand-over to the provider's answer.", *quantiles("postrider_submit_seconds", "provider")),
            panel("Time to the last receipt", "s", "From the provider's answer to its last receipt.", *quantiles("postrider_receipt_seconds", "provider")),
            panel("Delivered", "percentunit", "Share of the last receipts that say `delivered`, over an hour.", (
                'sum by (provider) (increase({ok}[1h])) / clamp_min(sum by (provider) (increase({all}[1h])), 1e-9)'.format(
                    ok=series("postrider_receipts_total", 'state="delivered"'), all=series("postrider_receipts_total", 'state!="pending"')
                ), "{{provider}}")),
            panel("Receipts by state", "receipts/s", "`pending` ones are not the last word.", (rate("postrider_receipts_total", "provider, state") + " > 0", "{{provider}} {{state}}"), stack=True),
            panel("Callbacks", "calls/s", "Providers' callbacks over HTTP, and what became of them.", (rate("postrider_callbacks_total", "provider, result"), "{{provider}} {{result}}")),
            panel("Asked about messages", "messages/s", "Of providers that call nobody back: messages they were asked about; those that are not ours, had no good answer or no time.", (rate("postrider_polls_total", "provider, result"), "{{provider}} {{result}}")),
            panel("Link events", "events/s", "Connections that came, ended or failed, and what came over them that fits nothing.", (rate("postrider_link_events_total", "provider, event") + " > 0", "{{provider}} {{event}}")),
            panel("Receipts without a hand-over", "receipts/s", "Receipts that wait for a hand-over they belong to. Some come before their answer is written; a steady stream belongs to somebody else.", (rate("postrider_receipts_unmatched_total"), "receipts")),
            panel("Cost", "none", "What hand-overs cost that the provider took, over an hour, in units of its currency.", (
                f'sum by (provider, currency) (increase({series("postrider_cost_micros_total")}[1h])) / 1e6', "{{provider}} {{currency}}")),
            panel("Unresolved", "jobs", "Hand-overs without an answer that were written since the process started, less those that found one.", (f'sum({series("postrider_unresolved_jobs")})', "jobs")),
        ],
    ),
    "policy": (
        "Postrider / Policy",
        "Who was not reached, and by which rule.",
        [
            panel("Decisions by cap", "jobs/s", "Jobs that a claim was asked for. `mode` tells caps that are enforced from those that only watch.", (rate("postrider_caps_decisions_total", "rule, decision, mode"), "{{rule}} {{decision}} ({{mode}})"), stack=True),
            panel("Deferred by rule", "jobs/s", "Jobs put back until the rule allows them.", (rate("postrider_jobs_deferred_total", "reason"), "{{reason}}"), stack=True),
            panel("Suppressed by reason", "jobs/s", "Jobs stopped by an opt-out or a cap.", (rate("postrider_jobs_suppressed_total", "reason"), "{{reason}}"), stack=True),
            panel("Suppressed share", "percentunit", "Share of the outcomes that are `suppressed` or `expired`: wanted, and not allowed in time.", (
                '{no} / clamp_min({all}, 1e-9)'.format(
                    no=rate("postrider_jobs_finished_total", "class", 'outcome=~"suppressed|expired"'), all=rate("postrider_jobs_finished_total", "class")
                ), "{{class}}")),
            panel("Opt-outs", "opt-outs/s", "By where they came from.", (rate("postrider_optouts_total", "source"), "{{source}}")),
        ],
    ),
    "calls": (
        "Postrider / Calls",
        "Smart calls: the jobs of kind `call`, and what happens on the lines of an Asterisk.",
        [
            panel("Calls accepted", "jobs/s", "By class.", (rate("postrider_jobs_accepted_total", "class", 'kind="call"') + " > 0", "{{class}}"), stack=True),
            panel("Calls by outcome", "jobs/s", "`completed` calls were answered and ended.", (rate("postrider_jobs_finished_total", "outcome", 'kind="call"') + " > 0", "{{outcome}}"), stack=True),
            panel("Calls completed", "percentunit", "Share of the outcomes that are `completed`, over an hour.", (
                'sum(increase({ok}[1h])) / clamp_min(sum(increase({all}[1h])), 1e-9)'.format(
                    ok=series("postrider_jobs_finished_total", 'kind="call", outcome="completed"'), all=series("postrider_jobs_finished_total", 'kind="call"')
                ), "share")),
            panel("Lines in use", "short", "Calls that are set up, ring or are talked in, by trunk; never more than its `lines`.", (series("postrider_calls_in_progress"), "{{trunk}}")),
            panel("Calls ended, by result", "calls/s", "Each try of a job on its own.", (rate("postrider_call_results_total", "result"), "{{result}}"), stack=True),
            panel("Answer-seizure ratio", "percentunit", "Share of the calls that ended over an hour that were answered.", (
                'sum(increase({ok}[1h])) / clamp_min(sum(increase({all}[1h])), 1e-9)'.format(
                    ok=series("postrider_call_results_total", 'result=~"completed|machine"'), all=series("postrider_call_results_total")
                ), "share")),
            panel("Average call duration", "s", "Of the answered calls that ended over an hour.", (
                'sum(increase({sum}[1h])) / clamp_min(sum(increase({count}[1h])), 1e-9)'.format(
                    sum=series("postrider_call_talk_seconds_sum"), count=series("postrider_call_talk_seconds_count")
                ), "duration")),
            panel("Time to hand in what follows", "s", "From the moment that a call asks for a job until that is accepted, with somebody on the line.", *quantiles("postrider_call_follow_up_seconds")),
            panel("Calls not made, by outcome", "jobs/s", "Suppressed, expired, cancelled, rejected, failed.", (rate("postrider_jobs_finished_total", "outcome", 'kind="call", outcome!="completed"'), "{{outcome}}"), stack=True),
        ],
    ),
    "servers": (
        "Postrider / Ledger and servers",
        "The queue, limits and the ledger, as Postrider feels them.",
        [
            panel("Ledger lag", "s", "Age of the last fact that record wrote; while it cannot write, how long it has been trying. Keeps its value while there is nothing to write.", (worst("postrider_ledger_lag_seconds"), "age")),
            panel("Jobs written with their outcome", "jobs/s", "What record wrote.", (rate("postrider_jobs_finished_total"), "jobs")),
            panel("Queue connections", "short", "1 while the process reaches the queue server, or needs none.", (f'min by (instance) ({series("postrider_queue_up")})', "{{instance}}")),
            panel("Dead letters", "frames", "What could not be read, and what ended dispatch again and again.", (worst("postrider_dead_letters"), "frames")),
            panel("Time to confirm a frame", "s", "From the publish to its confirm.", *quantiles("postrider_publish_seconds")),
            panel("Frames not durable in time", "frames/s", "By reason.", (rate("postrider_publish_failures_total", "reason"), "{{reason}}"), stack=True),
            panel("Time of calls to limits", "s", "99 of 100 calls are faster.", (quantile(0.99, "postrider_limits_seconds", "op"), "{{op}}")),
            panel("Calls to limits", "calls/s", "A call may carry many claims.", (rate("postrider_limits_seconds_count", "op"), "{{op}}"), stack=True),
            panel("Calls to limits that failed", "calls/s", "By what was asked.", (rate("postrider_limits_failures_total", "op"), "{{op}}"), stack=True),
            panel("Limits recovering", "short", "1 while they reload what they lost: only one-time passwords and transactional jobs leave.", (f"max({series('postrider_limits_recovering')})", "recovering")),
            panel("Jobs handed over without limits", "jobs/s", "While limits were away or recovering, by whether the ledger was asked for opt-outs.", (rate("postrider_without_limits_total", "class, opt_outs"), "{{class}} {{opt_outs}}")),
            panel("Urgent jobs accepted without a look at their key", "jobs/s", "Because limits were away; a repeated submit may have made two jobs of one.", (rate("postrider_keys_unchecked_total"), "jobs")),
        ],
    ),
    "tenants": (
        "Postrider / Tenants",
        "Who sends how much: the first 200 tenants of each process, and the others together.",
        [
            panel("Jobs accepted", "jobs/s", "The twenty busiest tenants.", (f'topk(20, {rate("postrider_tenant_jobs_accepted_total", "tenant")})', "{{tenant}}"), stack=True),
            panel("Jobs refused", "jobs/s", "The twenty tenants that are refused most.", (f'topk(20, {rate("postrider_tenant_jobs_refused_total", "tenant")})', "{{tenant}}"), stack=True),
            panel("Jobs finished", "jobs/s", "The twenty tenants with most outcomes.", (f'topk(20, {rate("postrider_tenant_jobs_finished_total", "tenant")})', "{{tenant}}"), stack=True),
            panel("Jobs accepted today", "short", "In the last 24 hours.", (f'topk(20, sum by (tenant) (increase({series("postrider_tenant_jobs_accepted_total")}[1d])))', "{{tenant}}"), kind="bargauge"),
        ],
    ),
}

# Units of our own are written after the number; Grafana knows the others by these names.
UNITS = {"s": "s", "percentunit": "percentunit", "short": "short"}

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def grid(number, kind, stats):
    if kind == "stat":
        return {"h": 4, "w": 6, "x": 6 * number, "y": 0}
    number -= stats
    top = 4 if stats else 0
    return {"h": 8, "w": 12, "x": 12 * (number % 2), "y": top + 8 * (number // 2)}


def panel_json(number, each, stats):
    field = {"unit": UNITS.get(each["unit"], f"suffix: {each['unit']}"), "min": 0}
    if each["kind"] == "timeseries":
        field["custom"] = {
            "fillOpacity": 20 if each["stack"] else 0,
            "showPoints": "never",
            "stacking": {"mode": "normal" if each["stack"] else "none"},
        }
    options = {
        "timeseries": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
        "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area"},
        "bargauge": {"reduceOptions": {"calcs": ["lastNotNull"]}, "orientation": "horizontal"},
    }[each["kind"]]
    return {
        "id": number + 1,
        "type": each["kind"],
        "title": each["title"],
        "description": each["description"],
        "datasource": DATASOURCE,
        "gridPos": grid(number, each["kind"], stats),
        "fieldConfig": {"defaults": field, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": expr,
                "legendFormat": legend or "__auto",
                "instant": each["kind"] == "bargauge",
            }
            for index, (expr, legend) in enumerate(each["targets"])
        ],
    }


def dashboard(name, title, description, panels):
    stats = sum(each["kind"] == "stat" for each in panels)
    return {
        "uid": f"postrider-{name}",
        "title": title,
        "description": description,
        "tags": ["postrider"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "time": {"from": "now-3h", "to": "now"},
        "refresh": "30s",
        "links": [{"type": "dashboards", "title": "Postrider", "tags": ["postrider"], "asDropdown": True, "keepTime": True, "includeVars": True}],
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
                {
                    "name": "job",
                    "label": "Job",
                    "type": "query",
                    "datasource": DATASOURCE,
                    "query": {"query": "label_values(postrider_build_info, job)", "refId": "job"},
                    "multi": True,
                    "includeAll": True,
                    "current": {"text": "All", "value": "$__all"},
                    "refresh": 2,
                    "sort": 1,
                },
            ]
        },
        "panels": [panel_json(number, each, stats) for number, each in enumerate(panels)],
    }


def main():
    check = sys.argv[1:] == ["--check"]
    stale = []
    for name, (title, description, panels) in DASHBOARDS.items():
        text = json.dumps(dashboard(name, title, description, panels), indent=2) + "\n"
        file = HERE / f"{name}.json"
        if not check:
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            stale.append(file.name)
    stale += [file.name for file in HERE.glob("*.json") if file.stem not in DASHBOARDS]
    if stale:
        sys.exit(f"not what generate.py writes: {', '.join(stale)}; run it, and commit what it wrote")


if __name__ == "__main__":
    main()
