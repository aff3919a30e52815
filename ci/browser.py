"""Looks at our pages with a real browser: `karat ui` over a store made here, and `report.html`.

    python ci/browser.py KARAT OUT [REPORT.html ...]

Clicks through every page, as a mouse, a keyboard, a screen reader (axe-core) and a phone would; makes sure that nothing is
asked for elsewhere, that nothing hostile runs, that the console stays empty; measures pages over a store of 10,000 runs.
Screenshots and `timings.json` go to OUT. Exits with 1 and a list when anything is wrong.

Needs playwright and axe-playwright-python from PyPI, and a Chromium: $CHROMIUM, or the first found on the PATH.
"""

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

N_RUNS = 10_000
PAGE_MS_MAX = 200
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}
# Pages of one kind that are looked at closely.
CLOSE_MAX = 3
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'

problems = []


def problem(text):
    problems.append(text)
    print(f"  PROBLEM {text}")


def check(is_right, text):
    if not is_right:
        problem(text)


# A store, made by the product itself.


def karat(binary, folder, *arguments, codes=(0,)):
    environment = {**os.environ, "KARAT_ACTOR": HOSTILE}
    ran = subprocess.run([binary, "-C", str(folder), *arguments], capture_output=True, text=True, env=environment)
    if ran.returncode not in codes:
        sys.exit(f"karat {' '.join(arguments)}: exit {ran.returncode}\n{ran.stdout}{ran.stderr}")
    return ran.stdout


def make_project(binary, base):
    """Two versions, a verdict of each kind, a forced promotion and a rollback; hostile names wherever data can have them."""
    rng = random.Random(7)
    regions = ["north", "south", HOSTILE]
    lines = ["id,joined,region,plan,age,spend,churned"]
    for i in range(4000):
        region, plan = rng.choice(regions), rng.choice(["basic", "gold", "team"])
        age, spend = rng.randint(18, 90), round(rng.expovariate(1 / 40), 2)
        leaves = rng.random() < 0.2 + 0.4 * (plan == "basic") - 0.002 * (age - 50)
        quoted = '"' + region.replace('"', '""') + '"'
        lines.append(f"{i},2024-{1 + i % 12:02}-{1 + i % 28:02},{quoted},{plan},{age},{spend},{'yes' if leaves else 'no'}")
    (base / "churn.csv").write_text("\n".join(lines) + "\n")
    project = base / "churn"
    ran = subprocess.run(
        [binary, "-C", str(base), "init", "churn", "--data", "churn.csv", "--label", "churned"], capture_output=True, text=True
    )
    if ran.returncode:
        sys.exit(f"karat init: {ran.stdout}{ran.stderr}")
    gate = project / "gate.toml"
    gate.write_text(re.sub(r'(?m)^name = "[^"]*"', "name = '" + HOSTILE.replace("'", "") + "'", gate.read_text(), count=1))
    # Small, so that it takes a moment; what comes of it does not matter here.
    small = ["--set", "train.hidden=[16]", "--set", "train.epochs=4"]
    karat(binary, project, "run", *small, codes=(0, 1, 4))
    karat(binary, project, "run", *small, "--set", "train.seed=8", codes=(0, 1, 4))
    karat(binary, project, "run", *small, "--set", "train.learning_rate=0.000001", codes=(0, 1, 4))
    karat(binary, project, "promote", "churn@1", "--force", "--reason", HOSTILE)
    karat(binary, project, "promote", "churn@2", "--force", "--reason", HOSTILE)
    karat(binary, project, "rollback", "--reason", HOSTILE, codes=(0, 1, 2, 3))
    return project


def put(store, content):
    """An object as the store keeps it."""
    digest = hashlib.sha256(content).hexdigest()
    path = store / "objects/sha256" / digest[:2] / digest
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return f"sha256:{digest}", len(content)


def multiply(project, n_runs):
    """Copies of the store's own rows, until it has `n_runs` runs, and a version and a verdict to every fourth."""
    store = project / ".karat"
    database = sqlite3.connect(store / "karat.db")
    database.row_factory = sqlite3.Row
    rows = [dict(row) for row in database.execute("SELECT * FROM run WHERE step IN ('train', 'score', 'gate', 'report')")]
    outputs = {row["id"]: database.execute("SELECT name, digest FROM run_output WHERE run = ?", (row["id"],)).fetchall() for row in rows}
    verdict = json.loads((store / "objects/sha256" / path_of(database.execute("SELECT digest FROM verdict LIMIT 1").fetchone()[0])).read_bytes())
    manifest = json.loads((store / "objects/sha256" / path_of(database.execute("SELECT manifest FROM version LIMIT 1").fetchone()[0])).read_bytes())
    (n_versions,) = database.execute("SELECT max(version) FROM version WHERE model = 'churn'").fetchone()
    (n_now,) = database.execute("SELECT count(*) FROM run").fetchone()
    rng = random.Random(7)
    last = {}
    for i in range(n_runs - n_now):
        source = rows[i % len(rows)]
        row = {name: value for name, value in source.items() if name != "seq"}
        row["id"] = f"r-{i:010x}"
        row["key"] = "sha256:" + hashlib.sha256(str(i).encode()).hexdigest()
        row["state"] = rng.choices(["complete", "failed", "canceled", "running"], [95, 3, 1, 1])[0]
        row["error"] = "device-lost: the device is gone" if row["state"] == "failed" else None
        row["seconds"] = rng.expovariate(1 / 60)
        row["started_at"] = source["started_at"] - (n_runs - i) * 60_000
        metrics = json.loads(row["metrics"])
        if row["step"] == "train" and metrics:
            metrics["best_eval_loss"] = rng.uniform(0.4, 0.7)
            row["metrics"] = json.dumps(metrics)
        names = ", ".join(row)
        database.execute(f"INSERT INTO run ({names}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
        database.executemany(
            "INSERT INTO run_output VALUES (?, ?, ?)", [(row["id"], it["name"], it["digest"]) for it in outputs[source["id"]]]
        )
        last[row["step"]] = row["id"]
        if i % 4 == 3 and "train" in last:
            n_versions += 1
            manifest["spec"]["seed"] = i
            digest, n_bytes = put(store, json.dumps(manifest).encode())
            database.execute("INSERT OR IGNORE INTO object VALUES (?, ?)", (digest, n_bytes))
            database.execute("INSERT INTO version VALUES ('churn', ?, ?, ?, ?, 0)", (n_versions, digest, last["train"], row["started_at"]))
            verdict["judged"]["candidate"], verdict["candidate"] = digest, f"churn@{n_versions}"
            verdict["outcome"] = rng.choice(["pass", "fail", "inconclusive"])
            digest, n_bytes = put(store, json.dumps(verdict).encode())
            database.execute("INSERT OR IGNORE INTO object VALUES (?, ?)", (digest, n_bytes))
            database.execute(
                "INSERT INTO verdict (digest, candidate, gate, outcome, created_at) VALUES (?, ?, ?, ?, ?)",
                (digest, verdict["judged"]["candidate"], verdict["gate"], verdict["outcome"], row["started_at"]),
            )
    database.commit()
    database.close()
    return n_versions, digest.removeprefix("sha256:"), last


def path_of(digest):
    digest = digest.removeprefix("sha256:")
    return f"{digest[:2]}/{digest}"


@contextlib.contextmanager
def served(binary, project):
    """`karat ui` until the block ends; it has to end by itself when asked to."""
    child = subprocess.Popen([binary, "-C", str(project), "ui", "--port", "0", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield json.loads(child.stdout.readline())["address"].rstrip("/")
    finally:
        child.send_signal(signal.SIGINT)
        try:
            code = child.wait(timeout=10)
            check(code == 0, f"karat ui ended with {code}: {child.stderr.read()}")
        except subprocess.TimeoutExpired:
            problem("karat ui does not end when asked to")
            child.kill()


# A browser that tells on pages.


def watched(browser, base, **options):
    """A tab where everything that must not happen becomes a problem."""
    context = browser.new_context(viewport=options.pop("viewport", DESK), **options)
    page = context.new_page()
    page.set_default_timeout(15_000)

    def asked(request):
        if not request.url.startswith(base):
            problem(f"{page.url} asks for {request.url}")

    page.on("request", asked)
    # A page that says "not here" is an answer, and the console says so too.
    page.on("console", lambda it: it.type in ("error", "warning") and "404" not in it.text and problem(f"{page.url}: console: {it.text}"))
    page.on("pageerror", lambda it: problem(f"{page.url}: {it}"))
    page.on("dialog", lambda it: (problem(f"{page.url}: hostile text ran: {it.message}"), it.dismiss()))
    return page


def audit(page, what):
    """What axe-core finds; landmarks, names, contrast, structure."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    for it in found:
        places = "; ".join(" ".join(node["target"]) if isinstance(node["target"][0], str) else str(node["target"]) for node in it["nodes"][:3])
        problem(f"{what}: axe {it['id']} ({it['impact']}): {it['help']}: {places}")


def kind(address):
    """What kind of page an address leads to, and whether its query says anything."""
    path = re.sub(r"/r-[0-9a-f]+|/[0-9a-f]{64}|/\d+(?=/|$)", "/…", urlsplit(address).path)
    return path + ("?" if urlsplit(address).query else "")


def crawl(page, base):
    """Follows every link from the first page on. Returns addresses by kind."""
    todo, seen, kinds = ["/"], set(), {}
    while todo:
        address = todo.pop(0)
        if address in seen or len(kinds.setdefault(kind(address), [])) >= 40:
            continue
        seen.add(address)
        answer = page.goto(base + address)
        is_gone = answer.status == 404 and address.startswith("/artifacts/")
        check(answer.status == 200 or is_gone, f"{address}: status {answer.status}")
        if is_gone:
            continue
        kinds[kind(address)].append(address)
        check(page.title() != "", f"{address}: no title")
        check(page.locator("h1").count() == 1, f"{address}: not one h1")
        check(page.locator("script, img, iframe, object, [onerror], [onload], [style]").count() == 0, f"{address}: a forbidden element")
        links = page.locator("a[href]").evaluate_all("all => all.map(it => it.getAttribute('href'))")
        todo += [it for it in links if it.startswith("/")]
    print(f"  {len(seen)} pages of {len(kinds)} kinds")
    return {name: found for name, found in kinds.items() if found}


def look_closely(browser, base, kinds, out, scheme):
    """axe on pages of every kind, screenshots, and no scrolling sideways on a phone."""
    desk, phone = (watched(browser, base, viewport=it, color_scheme=scheme) for it in (DESK, PHONE))
    for name, addresses in kinds.items():
        shot = re.sub(r"[^a-z]+", "-", name).strip("-") or "overview"
        for i, address in enumerate(addresses[:CLOSE_MAX]):
            desk.goto(base + address)
            audit(desk, f"{address} ({scheme})")
            phone.goto(base + address)
            wide = phone.evaluate("document.documentElement.scrollWidth")
            check(wide <= PHONE["width"], f"{address}: {wide} px wide on a phone of {PHONE['width']}")
            if i == 0:
                desk.screenshot(path=out / f"{shot}-{scheme}.png", full_page=True)
                if scheme == "light":
                    phone.screenshot(path=out / f"{shot}-phone.png", full_page=True)
    desk.context.close()
    phone.context.close()


FOCUS = """() => {
    const it = document.activeElement, seen = it.seen;
    it.seen = true;
    const look = getComputedStyle(it);
    const inner = it.querySelector && it.querySelector('rect');
    const box = it.getBoundingClientRect();
    return {
        again: seen === true,
        tag: it.tagName.toLowerCase(),
        name: (it.getAttribute('aria-label') || it.textContent || it.name || '').trim().slice(0, 60),
        visible: (look.outlineStyle !== 'none' && parseFloat(look.outlineWidth) > 0)
            || (inner && parseFloat(getComputedStyle(inner).strokeWidth) >= 4),
        inside: box.width > 0 && box.left >= 0,
    };
}"""


def walk_by_keyboard(page, base, address):
    """Tab goes to everything that can be used, in order, visibly, and out at the end."""
    page.goto(base + address)
    expected = page.locator("a[href], button, input, select, summary, [tabindex='0']").evaluate_all("all => all.filter(it => it.checkVisibility()).length")
    stops = []
    for _ in range(expected + 1):
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUS)
        if at["tag"] == "body" or at["again"]:
            break
        stops.append(at)
        check(at["visible"], f"{address}: focus on {at['tag']} `{at['name']}` cannot be seen")
        check(at["inside"], f"{address}: focus on {at['tag']} `{at['name']}` is outside the page")
        check(at["name"] != "", f"{address}: {at['tag']} has no name")
    check(len(stops) == expected, f"{address}: {len(stops)} stops by keyboard, {expected} things to use")
    check(bool(stops) and stops[0]["name"] == "Skip to the content", f"{address}: the first stop is not the skip link")


def use_by_keyboard(page, base):
    """The skip link skips; a filter and a comparison need no mouse."""
    page.goto(base + "/runs")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    check(page.evaluate("document.activeElement.id") == "content", "the skip link does not lead to the content")
    page.keyboard.press("Tab")
    page.get_by_label("step").focus()
    page.keyboard.type("tr")
    page.keyboard.press("Enter")
    page.get_by_label("contains").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs?step=train*")
    boxes = page.get_by_role("checkbox")
    check(2 <= boxes.count(), "no two trainings to choose")
    for i in range(2):
        boxes.nth(i).focus()
        page.keyboard.press("Space")
    page.get_by_role("button", name="Compare the chosen runs").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/compare?run=*")
    check(page.get_by_role("heading", name="Curves").count() == 1, "the comparison shows no curves")
    check(page.get_by_role("img").count() >= 2, "the comparison has no charts")
    return urlsplit(page.url)._replace(scheme="", netloc="").geturl()


def use_by_mouse(page, base):
    """From the first page to a verdict, its candidate, its lineage, its data, and back by breadcrumbs."""
    page.goto(base + "/")
    page.get_by_role("navigation", name="Sections").get_by_role("link", name="Verdicts").click()
    page.get_by_label("outcome").select_option("fail")
    page.get_by_role("button", name="Show").click()
    check("outcome=fail" in page.url, "the form does not filter")
    page.goto(base + "/verdicts")
    page.get_by_role("region", name="Verdicts").get_by_role("link").first.click()
    check(page.get_by_role("heading", name="Rules").count() == 1, "a verdict without its rules")
    page.get_by_role("link", name=re.compile(r"^churn@\d+$")).first.click()
    page.get_by_role("link", name="Lineage on a page of its own").click()
    page.locator("svg a", has_text="data").first.click()
    check(page.url.startswith(base + "/data/"), "the lineage does not lead to the data")
    page.get_by_role("navigation", name="Breadcrumb").get_by_role("link", name="Overview").click()
    check(page.url == base + "/", "the breadcrumb does not lead back")


def measure(page, base, addresses):
    """Milliseconds from request to the end of the answer, and to the end of loading; five times each, and up to twenty
    where the machine was busy with something else."""
    timings = {}
    for name, address in addresses.items():
        answers, loads = [], []
        while len(loads) < 5 or (len(loads) < 20 and PAGE_MS_MAX < min(loads)):
            answer = page.goto(base + address)
            check(answer.status == 200, f"{address}: status {answer.status}")
            at = page.evaluate("(() => { const it = performance.getEntriesByType('navigation')[0]; return [it.responseEnd - it.requestStart, it.loadEventEnd - it.startTime] })()")
            answers.append(at[0])
            loads.append(at[1])
        timings[name] = {"answer_ms": round(statistics.median(answers), 1), "load_ms": round(statistics.median(loads), 1), "load_ms_best": round(min(loads), 1)}
        print(f"  {name:<34} answer {timings[name]['answer_ms']:>6.1f} ms   loaded {timings[name]['load_ms']:>6.1f} ms (median of {len(loads)})")
        # The best: what the machine was doing besides is not the page's fault.
        check(min(loads) <= PAGE_MS_MAX, f"{name}: {min(loads):.0f} ms, allowed are {PAGE_MS_MAX}")
    return timings


def look_at_reports(browser, reports, out):
    for report in reports:
        address = Path(report).resolve().as_uri()
        for scheme in ("light", "dark"):
            page = watched(browser, address, color_scheme=scheme)
            page.goto(address)
            audit(page, f"{Path(report).name} ({scheme})")
            check(page.locator("script, img, iframe, object, link").count() == 0, f"{report}: a forbidden element")
            page.screenshot(path=out / f"report-{Path(report).stem}-{scheme}.png", full_page=True)
            page.set_viewport_size(PHONE)
            wide = page.evaluate("document.documentElement.scrollWidth")
            check(wide <= PHONE["width"], f"{report}: {wide} px wide on a phone of {PHONE['width']}")
            if scheme == "light":
                page.screenshot(path=out / f"report-{Path(report).stem}-phone.png", full_page=True)
            page.context.close()


def main(binary, out, reports):
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        print(f"browser {browser.version}")
        project = make_project(binary, Path(scratch))

        print("every page, by link")
        with served(binary, project) as base:
            page = watched(browser, base)
            kinds = crawl(page, base)
            print("by mouse and by keyboard")
            use_by_mouse(page, base)
            comparison = use_by_keyboard(page, base)
            kinds["/compare?"] = [comparison]
            for name, addresses in kinds.items():
                walk_by_keyboard(page, base, addresses[0])
            page.goto(base + "/nothing/here")
            check(page.get_by_role("heading", name="Not here").count() == 1, "an unknown address has no page")
            print("closely: light, dark, phone")
            for scheme in ("light", "dark"):
                look_closely(browser, base, kinds, out, scheme)

        print(f"pages over {N_RUNS:,} runs")
        n_versions, verdict, last = multiply(project, N_RUNS)
        with served(binary, project) as base:
            page = watched(browser, base)
            snapshot = next(it for it in kinds["/data/…"]).split("/")[-1]
            addresses = {
                "overview": "/",
                "runs": "/runs",
                "runs, last page": f"/runs?page={N_RUNS // 50}",
                "runs, filtered and sorted": "/runs?step=train&state=complete&sort=best&q=churn",
                "runs, longest first": "/runs?sort=longest",
                "runs, nothing found": "/runs?q=nothing%20has%20this",
                "run": f"/runs/{last['train']}",
                "comparison": comparison,
                "models": "/models",
                "model": "/models/churn",
                "model, last page": f"/models/churn?page={n_versions // 50}",
                "version": f"/models/churn/{n_versions}",
                "lineage": f"/models/churn/{n_versions}/lineage",
                "verdicts": "/verdicts",
                "verdicts, filtered": "/verdicts?outcome=fail&page=10",
                "verdict": f"/verdicts/{verdict}",
                "promotions": "/promotions",
                "data": "/data",
                "snapshot": f"/data/{snapshot}",
            }
            timings = measure(page, base, addresses)
            page.goto(base + "/runs")
            page.screenshot(path=out / "runs-10000-light.png", full_page=True)
            look_closely(browser, base, {"/runs (10,000)": ["/runs?page=7"]}, out, "light")
        (out / "timings.json").write_text(json.dumps({"n_runs": N_RUNS, "n_versions": n_versions, "pages": timings}, indent=1) + "\n")

        print("reports")
        look_at_reports(browser, reports, out)
        browser.close()
    if problems:
        print(f"{len(problems)} problems:")
        for text in dict.fromkeys(problems):
            print(f"  {text}")
        return 1
    print("nothing wrong")
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
