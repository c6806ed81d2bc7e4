"""Draws the main panels of the dashboards beside it from a Prometheus that has scraped a Postrider:

    python3 deploy/grafana/pictures.py http://127.0.0.1:9090 [MINUTES]

writes `pictures/*.png`. Needs matplotlib, which deploy/requirements.txt names. It asks what Grafana asks: the queries are
those of the panels.
"""

import json
import pathlib
import sys
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
import matplotlib.dates as dates
import matplotlib.pyplot as plt
from matplotlib.ticker import EngFormatter, PercentFormatter

HERE = pathlib.Path(__file__).parent
# Points of a line; more do not show at this size.
POINTS = 120
# By dashboard, the titles of the panels that are drawn.
MAIN = {
    "overview": ["Jobs accepted", "Jobs by outcome", "Time to accept", "Opt-outs"],
    "pipeline": ["Lateness by class", "Time in queue", "Agenda", "Jobs released"],
    "providers": ["Verdicts", "Time to answer", "Delivered", "Window in use"],
}


def ask(prometheus, expr, start, end):
    """Returns the lines of a query, as (labels, times, values)."""
    expr = expr.replace("$job", ".*").replace("$__rate_interval", "1m").replace("$__range", "5m")
    query = {"query": expr, "start": start, "end": end, "step": max((end - start) / POINTS, 5)}
    url = f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        result = json.load(answer)["data"]["result"]
    for line in result:
        times, values = zip(*((at, float(value)) for at, value in line["values"]))
        yield line["metric"], times, values


def legend(template, labels):
    for name, value in labels.items():
        template = template.replace("{{" + name + "}}", value)
    return template


def draw(axes, panel, prometheus, start, end):
    unit = panel["fieldConfig"]["defaults"].get("unit", "")
    drawn = 0
    for target in panel["targets"]:
        for labels, times, values in ask(prometheus, target["expr"], start, end):
            axes.plot(
                [dates.num2date(at / 86400) for at in times],
                values,
                linewidth=1.2,
                label=legend(target.get("legendFormat", ""), labels),
            )
            drawn += 1
    axes.set_title(panel["title"], fontsize=9, loc="left")
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0) if unit == "percentunit" else EngFormatter())
    axes.set_ylabel({"s": "seconds", "percentunit": "", "short": ""}.get(unit, unit.removeprefix("suffix: ").strip()), fontsize=7)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
    if drawn:
        axes.legend(fontsize=6, loc="upper left", ncols=2, framealpha=0.6)
    return drawn


def main():
    prometheus = sys.argv[1].rstrip("/")
    end = time.time()
    start = end - 60 * float(sys.argv[2] if len(sys.argv) > 2 else 15)
    (HERE / "pictures").mkdir(exist_ok=True)
    empty = []
    for name, titles in MAIN.items():
        board = json.loads((HERE / f"{name}.json").read_text())
        panels = {panel["title"]: panel for panel in board["panels"]}
        figure, grid = plt.subplots(2, 2, figsize=(9, 5), dpi=80, layout="constrained")
        for axes, title in zip(grid.flat, titles):
            if not draw(axes, panels[title], prometheus, start, end):
                empty.append(f"{name} / {title}")
        figure.suptitle(board["title"], fontsize=11)
        figure.savefig(HERE / "pictures" / f"{name}.png")
        plt.close(figure)
    if empty:
        print("no data:", ", ".join(empty), file=sys.stderr)
    sys.exit(1 if empty else 0)


if __name__ == "__main__":
    main()
