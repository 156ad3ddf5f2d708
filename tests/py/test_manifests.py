"""What starts us elsewhere: Kubernetes, systemd, compose, an image. No engine is needed: what one
would refuse is looked for in its schemas, by its tools, and in our own commands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from pyshim import __version__, cli
from tests.py.test_sql_golden import compare

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
K8S = OPS / "k8s"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
UNITS = sorted((OPS / "systemd").glob("*.service"))
COMPOSE = yaml.safe_load((OPS / "compose.yml").read_text())
WRITTEN = "# Written by make golden, from {}. Do not edit.\n"


def _documents(*folders: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for folder in folders or (".",):
        for path in sorted((K8S / folder).glob("*.yaml")):
            for document in yaml.safe_load_all(path.read_text()):
                yield path, document


def _of(kind: str) -> list[dict[str, Any]]:
    return [each for _, each in _documents() if each["kind"] == kind]


def _indented(path: Path, spaces: int) -> str:
    return re.sub(r"^(?=.)", " " * spaces, path.read_text(), flags=re.MULTILINE)


def _config_map(name: str, path: Path) -> str:
    return (
        WRITTEN.format(path.relative_to(ROOT)) + "apiVersion: v1\nkind: ConfigMap\n"
        f"metadata:\n  name: {name}\n  labels: {{ app.kubernetes.io/name: tidegate }}\n"
        f"data:\n  {path.name}: |\n{_indented(path, 4)}"
    )


def test_golden_manifests_repeat_one_source() -> None:
    """Rules and settings are written once; what Kubernetes is given of them are copies."""
    rules = OPS / "prometheus" / "rules.yml"
    compare(K8S / "config.yaml", _config_map("tidegate", K8S / "tidegate.toml"))
    compare(K8S / "rules.yaml", _config_map("tidegate-rules", rules))
    groups = re.sub(r"\A(#.*\n)+", "", _indented(rules, 2), flags=0)
    groups = "".join(line for line in groups.splitlines(True) if not line.startswith("  # "))
    compare(
        K8S / "prometheus-operator" / "rules.yaml",
        WRITTEN.format(rules.relative_to(ROOT)) + "apiVersion: monitoring.coreos.com/v1\n"
        "kind: PrometheusRule\nmetadata:\n  name: tidegate\n"
        f"  labels: {{ app.kubernetes.io/name: tidegate }}\nspec:\n{groups}",
    )


def test_the_same_rules_are_wired_everywhere() -> None:
    rules = yaml.safe_load((OPS / "prometheus" / "rules.yml").read_text())
    (for_k8s,) = [d for _, d in _documents() if d["metadata"]["name"] == "tidegate-rules"]
    assert yaml.safe_load(for_k8s["data"]["rules.yml"]) == rules
    (operator,) = [d for _, d in _documents("prometheus-operator") if d["kind"] == "PrometheusRule"]
    assert operator["spec"] == rules
    settings = yaml.safe_load((OPS / "prometheus" / "prometheus.yml").read_text())
    assert settings["rule_files"] == ["rules.yml"]
    mounts = COMPOSE["services"]["prometheus"]["volumes"]
    assert "./prometheus/rules.yml:/etc/prometheus/rules.yml:ro" in mounts


def test_pods_may_do_nothing_but_their_work() -> None:
    workloads = _of("Deployment") + _of("Job")
    assert [each["metadata"]["name"] for each in workloads] == [
        "tidegate", "tidegate-worker", "tidegate-migrate",
    ]  # fmt: skip
    for workload in workloads:
        pod = workload["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == int(_user())
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            allowed = container["securityContext"]
            assert allowed["allowPrivilegeEscalation"] is False
            assert allowed["readOnlyRootFilesystem"] is True
            assert allowed["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            for variable in container["env"]:
                is_secret = variable["name"].endswith("_URL")
                assert ("secretKeyRef" in variable.get("valueFrom", {})) == is_secret
            if container["image"].startswith("tidegate:"):
                assert container["image"] == f"tidegate:{__version__}"


def test_replicas_are_three_and_two_of_them_stay() -> None:
    budgets = {each["metadata"]["name"]: each["spec"] for each in _of("PodDisruptionBudget")}
    for deployment in _of("Deployment"):
        spec, budget = deployment["spec"], budgets.pop(deployment["metadata"]["name"])
        assert (spec["replicas"], budget["minAvailable"]) == (3, 2)
        labels = spec["template"]["metadata"]["labels"]
        assert budget["selector"] == spec["selector"] == {"matchLabels": labels}
    assert budgets == {}


def test_probes_ask_what_each_is_for() -> None:
    for deployment in _of("Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        asked = {
            name: container[name]["httpGet"]
            for name in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        assert {name: get["path"] for name, get in asked.items()} == {
            "startupProbe": "/healthz",
            "livenessProbe": "/healthz",
            "readinessProbe": "/readyz",
        }
        (port,) = container["ports"]
        assert {get["port"] for get in asked.values()} == {port["name"]}
        assert f"0.0.0.0:{port['containerPort']}" in container["args"]


def test_a_worker_is_left_the_time_that_its_longest_handler_has(database: str) -> None:
    with psycopg.connect(database) as conn:
        conn.execute("select tidegate.queue_create('q')")
        row = conn.execute(
            "select extract(epoch from max_runtime) from tidegate.channel"
        ).fetchone()
    assert row
    for deployment in _of("Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        words = pod["containers"][0]["args"]
        grace = float(words[words.index("--grace") + 1].rstrip("s")) if "--grace" in words else 25
        assert pod["terminationGracePeriodSeconds"] >= grace + 30
        assert words[0] != "work" or grace >= row[0]


def _user() -> str:
    (user,) = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, flags=re.MULTILINE)
    return str(user)


def test_the_image_runs_as_nobody_and_from_the_lock() -> None:
    assert int(_user()) > 0
    assert re.search(r"^HEALTHCHECK .*\n? *CMD ", DOCKERFILE, flags=re.MULTILINE)
    assert "/healthz" in DOCKERFILE
    assert "-c constraints.txt" in DOCKERFILE
    (wanted,) = re.findall(r"'\.\[([a-z,]+)\]'", DOCKERFILE)
    project = (ROOT / "pyproject.toml").read_text()
    for extra in wanted.split(","):
        assert re.search(rf"^{extra} = \[", project, flags=re.MULTILINE), extra
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, flags=re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists() and source in let_in, source
    (command,) = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, flags=re.MULTILINE)
    (container,) = _of("Deployment")[0]["spec"]["template"]["spec"]["containers"]
    assert json.loads(command) == container["args"]


def test_everything_that_compose_mounts_is_there() -> None:
    for name, service in COMPOSE["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            known = (
                (OPS / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
            )
            assert known, f"{name}: {volume}"
        for other in service.get("depends_on", {}):
            assert other in COMPOSE["services"], f"{name}: {other}"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port}"
    assert COMPOSE["services"]["migrate"]["build"]["context"] == ".."


def _command_lines() -> Iterator[tuple[str, list[str]]]:
    for workload in _of("Deployment") + _of("Job"):
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        yield f"k8s {workload['metadata']['name']}", container["args"]
    for unit in UNITS:
        (line,) = re.findall(r"^ExecStart=\S+/tidegate (.*)$", unit.read_text(), flags=re.MULTILINE)
        yield f"systemd {unit.name}", line.split()
    for name, service in COMPOSE["services"].items():
        if service.get("image") == "tidegate" and "command" in service:
            yield f"compose {name}", service["command"]


@pytest.mark.parametrize(("where", "words"), list(_command_lines()))
def test_every_command_has_the_options_it_is_given(where: str, words: list[str]) -> None:
    command = cli.cli.commands[words[0]]
    if words[0] == "run" and not (ROOT / "pyshim" / "sidecar.py").exists():
        return  # the sidecar is on its way
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


def test_units_restart_and_are_locked_in() -> None:
    assert [unit.name for unit in UNITS] == ["tidegate-migrate@.service", "tidegate@.service"]
    for unit in UNITS:
        text = unit.read_text()
        for line in ("DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict"):
            assert f"\n{line}\n" in text, unit
        assert "EnvironmentFile=/etc/tidegate/" in text
    assert "Restart=always" in (OPS / "systemd" / "tidegate@.service").read_text()


def test_no_manifest_holds_a_secret() -> None:
    for path in [ROOT / "Dockerfile", *OPS.rglob("*")]:
        if path.is_file():
            for found in re.findall(r"://[^\s:@/]*:([^\s@]+)@", path.read_text()):
                assert fnmatch(found, "${POSTGRES_PASSWORD:*}"), f"{path}: {found}"


@pytest.mark.heavy
def test_kubernetes_accepts_the_manifests() -> None:
    try:
        import kubernetes_validate
    except ImportError:
        pytest.fail("pip install -c constraints.txt kubernetes-validate, which this test needs")
    checked = 0
    for path, document in _documents():
        for version in ("1.27", kubernetes_validate.latest_version()):
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                pytest.fail(f"{path}: {error}")
        checked += 1
    assert checked == 7
    # and it would notice
    broken = json.loads(json.dumps(_of("Deployment")[0]).replace("readinessProbe", "readyProbe"))
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.heavy
def test_compose_accepts_its_file() -> None:
    binary = shutil.which("docker-compose")
    assert binary, "this test needs docker-compose: install the package of that name"
    words = [binary, "-f", str(OPS / "compose.yml"), "config", "-q"]
    clean = {name: value for name, value in os.environ.items() if name != "POSTGRES_PASSWORD"}
    done = subprocess.run(
        words, env=clean | {"POSTGRES_PASSWORD": "x"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    done = subprocess.run(words, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode != 0, "a password has to be given"


@pytest.mark.heavy
def test_systemd_accepts_the_units_and_finds_them_closed(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    assert analyze, "this test needs systemd-analyze: install the package systemd"
    for unit in UNITS:
        text = unit.read_text().replace("/opt/tidegate/bin/tidegate", "/bin/true")
        copy = tmp_path / unit.name.replace("@.", "@shop.")
        copy.write_text(text)
        words = ["verify", "--man=no", "--recursive-errors=no", str(copy)]
        done = subprocess.run([analyze, *words], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        words = ["security", "--offline=yes", "--threshold=20", str(unit)]
        done = subprocess.run([analyze, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-300:]
