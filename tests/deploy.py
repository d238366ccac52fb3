"""Checks the Helm chart and the systemd units of docs/deploy, and the proxies of the documents. tests/deploy starts it with
what it needs."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

CHART = pathlib.Path("docs/deploy/helm")
UNITS = pathlib.Path("docs/deploy/systemd")
BINARIES = pathlib.Path(os.environ["BINARIES"]).resolve()
HELM = os.environ["HELM"]
# The oldest and the newest release whose schemas the package has.
KUBERNETES = ["1.25", "1.37"]
# `systemd-analyze security` counts in tenths.
MOST_EXPOSURE = 20
VALUES = {"one": CHART / "ci/one.yaml", "several": CHART / "ci/several.yaml"}

passed = failed = 0


def check(what, problem):
    """Counts one check; `problem` is empty when it has passed."""
    global passed, failed
    passed, failed = passed + (not problem), failed + bool(problem)
    print(("FAIL  " if problem else "ok    ") + what)
    for line in str(problem).splitlines()[-15:] if problem else []:
        print(f"      | {line}")


def run(*command, **more):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, **more)


def problem_of(done):
    return "" if done.returncode == 0 else done.stdout + done.stderr or f"exit code {done.returncode}"


def helm(command, *more):
    """Runs helm as for the newest release. Without a cluster, helm that is built from its module takes an old one."""
    return run(HELM, command, *more, "--kube-version", KUBERNETES[-1])


def render(values, *more):
    return helm("template", "demo", CHART, "--values", values, *more)


# --------------------------------------------------------------------------------------- the chart


def containers(documents):
    """Each pod of the chart: its name, its specification, its only container."""
    for document in documents:
        if document["kind"] in ("Deployment", "StatefulSet"):
            pod = document["spec"]["template"]["spec"]
            [container] = pod["containers"]
            yield container["name"], pod, container


def hardening_problem(documents):
    found = []
    for name, pod, container in containers(documents):
        security = container["securityContext"]
        rules = {
            "runs as root": pod["securityContext"].get("runAsNonRoot"),
            "no seccomp profile": pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault",
            "has a token of Kubernetes": pod["automountServiceAccountToken"] is False,
            "writable root": security["readOnlyRootFilesystem"],
            "capabilities": security["capabilities"] == {"drop": ["ALL"]},
            "privilege escalation": security["allowPrivilegeEscalation"] is False,
            "no probes": {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys(),
            "no limit of memory": container["resources"]["limits"]["memory"],
        }
        found += [f"{name}: {rule}" for rule, holds in rules.items() if not holds]
    return "\n".join(found)


def drain_problem(documents, window, before):
    [(pod, container)] = [(pod, one) for name, pod, one in containers(documents) if name == "realtime-service"]
    expected = (window + before + 10, ["sleep", str(before)], str(window))
    variables = {one["name"]: one.get("value") for one in container["env"]}
    hook = container["lifecycle"]["preStop"]["exec"]["command"]
    found = (pod["terminationGracePeriodSeconds"], hook, variables["REALTIME__DRAIN__WINDOW_SECS"])
    return "" if found == expected else f"{found} instead of {expected}"


def files_problem(documents):
    """Names the files of variables that no volume of a secret has."""
    found = []
    for name, pod, container in containers(documents):
        folders = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        files = set()
        for volume in pod["volumes"]:
            items = volume.get("secret", {}).get("items", [])
            files |= {f"{folders[volume['name']]}/{item['path']}" for item in items}
        variables = {one["name"]: one.get("value") for one in container["env"] if one["name"].endswith("_FILE")}
        found += [f"{name}: {one}={file}" for one, file in variables.items() if file not in files]
    return "\n".join(found)


def with_backend_secrets(settings, pod, container, folder):
    """Puts a secret on this machine in the place of each file of `[[backends]]` that a volume of a secret has."""
    secret = folder / "backend-secret"
    secret.write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    secret.chmod(0o600)
    secrets = {volume["name"]: volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    for mount in container["volumeMounts"]:
        if mount["mountPath"] == f"/run/backends/{secrets.get(mount['name'])}":
            settings = re.sub(f'"{mount["mountPath"]}/[^"/]+"', f'"{secret}"', settings)
    return settings


def settings_problem(documents, folder):
    """Starts `check-config` of each service with the variables and the file that the chart gives it."""
    found = []
    files = {"auth.toml": "", "realtime.toml": ""}
    for document in documents:
        if document["kind"] == "ConfigMap":
            files |= document["data"]
    secret = folder / "secret"
    secret.write_text("mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa\n")
    secret.chmod(0o600)
    for name, pod, container in containers(documents):
        variables = {"PATH": os.environ["PATH"]}
        for one in container["env"]:
            value = one.get("value")
            if value is None:
                assert one["valueFrom"].keys() == {"secretKeyRef"}, one
                value = "postgres://auth:secret@database/latchkey"
            variables[one["name"]] = str(secret) if one["name"].endswith("_FILE") else value
        arguments = container.get("args", [])
        if arguments:
            file = folder / pathlib.Path(arguments[1]).name
            file.write_text(with_backend_secrets(files[file.name], pod, container, folder))
            arguments = ["--config", file]
        done = run(BINARIES / name, *arguments, "check-config", env=variables)
        if done.returncode:
            found.append(f"{name}: {done.stdout}{done.stderr}")
    return "\n".join(found)


def check_rendered(name, values, folder):
    done = render(values)
    check(f"the chart is rendered with {name}.yaml", problem_of(done))
    if done.returncode:
        return []
    documents = [one for one in yaml.safe_load_all(done.stdout) if one]
    file = folder / f"{name}.yaml"
    file.write_text(done.stdout)
    for release in KUBERNETES:
        validated = run(sys.executable, "-m", "kubernetes_validate", "-k", release, "--strict", "--quiet", file)
        check(f"it is valid for Kubernetes {release}, to the last member", problem_of(validated))
    linted = helm("lint", "--strict", "--quiet", CHART, "--values", values)
    check("helm lint has nothing to say", problem_of(linted))
    check("each pod is confined and probed", hardening_problem(documents))
    check("each file of a variable is mounted", files_problem(documents))
    kinds = {one["kind"] for one in documents}
    check("no secret is in it, only references", "Secret" in kinds and "it has a Secret")
    check("both services take the settings that it makes", settings_problem(documents, folder))
    needed = {"PodDisruptionBudget", "NetworkPolicy", "Service", "ServiceAccount"}
    check("it has budgets and network policies", needed - kinds)
    return documents


REFUSED = {
    "two gateways without Redis": (["realtime.replicas=2"], "cluster.url"),
    "an autoscaler without Redis": (["realtime.autoscaling.enabled=true"], "cluster.url"),
    "a password in the URL of Redis": (["realtime.cluster.url=redis://u:hunter2@h"], "cluster/url"),
    "a password in the URL of a Redis Cluster": (["realtime.cluster.url=redis+cluster://u:hunter2@h"], "cluster/url"),
    "the URL of the database among the settings": (["auth.settings.DATABASE_URL=x"], "DATABASE_URL"),
    "no secret": (["secret.existingSecret="], "existingSecret"),
    "an issuer without a scheme": (["auth.publicUrl=auth.example.org"], "publicUrl"),
    "an unknown value": (["realtime.replica=1"], "replica"),
    "an ingress without names": (["ingress.enabled=true"], "authHost"),
}


def refusal_problem(settings, word):
    done = render(VALUES["one"], *(part for one in settings for part in ("--set", one)))
    if done.returncode == 0:
        return "it was rendered"
    text = done.stdout + done.stderr
    return "" if word.replace("/", ".") in text.replace("/", ".") else text


def check_chart(folder):
    one = check_rendered("one", VALUES["one"], folder)
    several = check_rendered("several", VALUES["several"], folder)
    check("a pod has the time that its drain needs", drain_problem(one, 20, 5) if one else "no chart")
    check("also with another window", drain_problem(several, 60, 5) if several else "no chart")
    scalers = [one for one in several if one["kind"] == "HorizontalPodAutoscaler"]
    metrics = [one["spec"]["metrics"][0]["pods"]["metric"]["name"] for one in scalers]
    check("the autoscaler counts sockets", metrics != ["latchkey_realtime_sockets"] and f"it counts {metrics}")
    if not one:
        return
    for what, (settings, word) in REFUSED.items():
        check(f"{what} is refused", refusal_problem(settings, word))
    # The twin of the first two.
    redis = "realtime.cluster.url=redis://redis:6379"
    done = render(VALUES["one"], "--set", redis, "--set", "realtime.replicas=2")
    check("two gateways with Redis are not", problem_of(done))
    # What the schemas are worth: a member that does not exist.
    file = folder / "wrong.yaml"
    file.write_text(re.sub(r"(?m)^( *)replicas:", r"\1replicaz:", (folder / "one.yaml").read_text()))
    done = run(sys.executable, "-m", "kubernetes_validate", "--strict", "--quiet", file)
    check("a misspelt member is found", done.returncode == 0 and "nobody found it")


# --------------------------------------------------------------------------------------- the units


def exposure_problem(unit):
    return problem_of(run("systemd-analyze", "security", "--offline=yes", f"--threshold={MOST_EXPOSURE}", unit))


def check_units(folder):
    for unit in sorted(UNITS.glob("*.service")):
        # The programs are where they were built, and not installed here.
        text = unit.read_text()
        local = folder / unit.name
        local.write_text(text.replace("/usr/local/bin/", f"{BINARIES}/"))
        done = run("systemd-analyze", "verify", "--man=no", local)
        check(f"{unit.name} is verified", problem_of(done) or done.stderr)
        check(f"its exposure is at most {MOST_EXPOSURE / 10}", exposure_problem(unit))
        variables = re.findall(r"(?m)^Environment=((?:AUTH|REALTIME)__[A-Z_]+)=", text)
        page = pathlib.Path("docs/configuration.md").read_text()
        check("its variables exist", [one for one in variables if f"`{one}`" not in page] or not variables)
        (folder / "weak").mkdir(exist_ok=True)
        weak = folder / "weak" / unit.name
        weak.write_text(re.sub(r"(?m)^(CapabilityBoundingSet|SystemCallFilter|ProtectSystem)=.*\n", "", text))
        check("without three lines of it the exposure is more", not exposure_problem(weak) and "it is not")
        wrong = folder / f"wrong-{unit.name}"
        wrong.write_text(local.read_text().replace("ProtectHome=yes", "ProtectHom=yes"))
        done = run("systemd-analyze", "verify", "--man=no", wrong)
        check("a misspelt line of it is found", not (done.returncode or done.stderr) and "nobody found it")


# ------------------------------------------------------------------------------------- the proxies


def blocks(page, language):
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", pathlib.Path(page).read_text())


def check_caddy(folder):
    [text] = blocks("docs/deployment.md", "caddy")
    file = folder / "Caddyfile"
    for what, content, is_right in (
        ("the documented Caddyfile is valid", text, True),
        ("a misspelt line of it is found", text.replace("reverse_proxy", "reverse_prxy", 1), False),
    ):
        file.write_text(content)
        home = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        done = run("caddy", "validate", "--adapter", "caddyfile", "--config", file, env=home)
        check(what, problem_of(done) if is_right else done.returncode == 0 and "nobody found it")


def check_nginx(folder):
    subject = ["-subj", "/CN=auth.example.org", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    made = run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *subject)
    assert made.returncode == 0, made.stderr
    separate, shared = blocks("docs/operations.md", "nginx")
    gateways = pathlib.Path("docs/deploy/nginx/gateways.conf").read_text()
    # The server with one name stands beside what the first block sets.
    common = separate[: separate.index("server {")]
    file = folder / "nginx.conf"
    for what, text, is_right in (
        ("nginx takes the two documented servers", separate, True),
        ("and the one for a shared name", common + shared, True),
        ("and the file for several gateways, whole", gateways, True),
        ("a misspelt line is found", separate.replace("proxy_pass", "proxy_pas", 1), False),
    ):
        text = text.replace("/etc/latchkey/", f"{folder}/").replace("/var/log/nginx/", f"{folder}/")
        file.write_text(f"pid {folder}/nginx.pid; events {{}}\nhttp {{\n{text}\n}}\n")
        done = run("/usr/sbin/nginx", "-t", "-q", "-p", folder, "-e", folder / "error.log", "-c", file)
        check(what, problem_of(done) if is_right else done.returncode == 0 and "nobody found it")


with tempfile.TemporaryDirectory() as scratch:
    check_chart(pathlib.Path(scratch))
    check_units(pathlib.Path(scratch))
    check_caddy(pathlib.Path(scratch))
    check_nginx(pathlib.Path(scratch))
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
