"""Checks what no schema of compose files knows: that the files it mounts are there, and its settings hold.

Prints the environment of each service that runs Postrider, for `postrider config check`.
"""

import os
import pathlib
import re
import sys

import yaml

HERE = pathlib.Path(__file__).parent
FILE = HERE / "compose.yaml"


def main():
    compose = yaml.safe_load(FILE.read_text())
    known = {line.split("=")[0] for line in (HERE / "compose" / "example.env").read_text().splitlines() if "=" in line}
    asked = set(re.findall(r"\$\{(\w+)", FILE.read_text()))
    wrong = [] if asked == known else [f"compose.yaml asks for {sorted(asked)}, example.env names {sorted(known)}"]
    roles = []
    for name, service in compose["services"].items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                if not (HERE / source).exists():
                    wrong.append(f"{name} mounts {source}, which is not there")
            elif source not in compose["volumes"]:
                wrong.append(f"{name} mounts the volume {source}, which is not declared")
        environment = service.get("environment", {})
        if "POSTRIDER_ROLES" in environment:
            roles += environment["POSTRIDER_ROLES"].split(",")
            if service["deploy"]["replicas"] != 2:
                wrong.append(f"{name} does not run twice")
            settings = [f"{key}={re.sub(r'[$][{].*?[}]', 'secret', value)}" for key, value in environment.items()]
            print(*settings, sep="\t")
    if sorted(roles) != ["dispatch", "feed", "front", "receive", "record"]:
        wrong.append(f"the roles are {roles}")
    print(os.linesep.join(wrong), file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
