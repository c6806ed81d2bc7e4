"""Checks that every alert has its section in the runbook, a case that fires, and a case that does not."""

import pathlib
import sys

import yaml

HERE = pathlib.Path(__file__).parent


def main():
    rules = yaml.safe_load((HERE / "prometheus" / "rules.yml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    sections = [line[3:] for line in (HERE / "RUNBOOK.md").read_text().splitlines() if line.startswith("## ")]
    fires, silent = set(), set()
    for file in ("rules_test.yml", "rules_days_test.yml"):
        for test in yaml.safe_load((HERE / "prometheus" / file).read_text())["tests"]:
            for case in test["alert_rule_test"]:
                (fires if case["exp_alerts"] else silent).add(case["alertname"])
    wrong = []
    for rule in alerts:
        name = rule["alert"]
        if rule["annotations"]["runbook"] != f"deploy/RUNBOOK.md#{name.lower()}":
            wrong.append(f"{name} does not link to its section of the runbook")
        if rule["labels"]["severity"] not in ("page", "ticket"):
            wrong.append(f"{name} has a severity that nobody knows")
    names = {rule["alert"] for rule in alerts}
    for what, has in (("section of the runbook", sections), ("case that fires", fires), ("case that does not", silent)):
        wrong += [f"{name} has no {what}" for name in sorted(names - set(has))]
        wrong += [f"{name}, of a {what}, is no alert" for name in sorted(set(has) - names)]
    print("\n".join(wrong), file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
