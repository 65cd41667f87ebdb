"""Specs that both doors refuse: the controller over gRPC, the API server by the CRD.

They are proto JSON, as a manifest has them. A change replaces a field of SOUND; None removes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DIGEST = "0123456789abcdef" * 4
SOUND: dict[str, Any] = {
    "task": {"module": "task.py"},
    "source": {"digest": DIGEST, "sizeBytes": "10"},
    "workers": 2,
}


@dataclass(frozen=True, slots=True)
class BadSpec:
    """A change that makes SOUND a bad spec, and the field that both doors name.

    Where the API server says it otherwise (of a part, or of the whole), in_crd is what it says.
    """

    what: str
    changes: dict[str, Any]
    field: str
    in_crd: str = ""

    @property
    def spec(self) -> dict[str, Any]:
        """The bad spec."""
        merged = SOUND | self.changes
        return {key: value for key, value in merged.items() if value is not None}

    @property
    def crd_says(self) -> str:
        """What the API server's refusal contains."""
        return self.in_crd or f"spec.{self.field}"


def _module(what: str, module: str) -> BadSpec:
    return BadSpec(what, {"task": {"module": module}}, "task.module")


def _script(what: str, field: str, in_crd: str = "", **script: Any) -> BadSpec:
    return BadSpec(
        what, {"task": None, "script": script}, field, f"spec.{in_crd}" if in_crd else ""
    )


def _pod(what: str, field: str, in_crd: str = "", **changes: Any) -> BadSpec:
    return BadSpec(what, {"pod": changes}, f"pod.{field}", f"spec.pod.{in_crd}" if in_crd else "")


BAD_SPECS = [
    BadSpec(
        "no program", {"task": None}, "task", "program: set exactly one of task, script, command"
    ),
    BadSpec(
        "evaluator of a script",
        {"task": None, "script": {"path": "t.py"}, "evaluator": True},
        "evaluator",
    ),
    BadSpec(
        "evaluator of a command",
        {"task": None, "command": {"words": ["a"]}, "evaluator": True},
        "evaluator",
    ),
    _script("no script", "script.path"),
    _script("script up", "script.path", path="../train.py"),
    _script("script, no .py", "script.path", path="train"),
    _script("many arguments", "script.arguments", path="t.py", arguments=[""] * 257),
    _script(
        "long argument",
        "script.arguments[1]",
        path="t.py",
        arguments=["", "x" * 4097],
    ),
    _script(
        "argument NUL",
        "script.arguments[0]",
        in_crd="script.arguments",
        path="t.py",
        arguments=["x\0"],
    ),
    BadSpec(
        "script, no source",
        {"task": None, "source": None, "script": {"path": "t.py"}},
        "source",
    ),
    BadSpec(
        "script's parameters",
        {"task": None, "script": {"path": "t.py"}, "parameters": {"a": "1"}},
        "parameters",
    ),
    BadSpec("no words", {"task": None, "command": {"words": []}}, "command.words"),
    BadSpec("no word", {"task": None, "command": {"words": [""]}}, "command.words"),
    BadSpec(
        "command's parameters",
        {"task": None, "command": {"words": ["w"]}, "parameters": {"a": "1"}},
        "parameters",
    ),
    _module("no module", ""),
    _module("long module", "m" * 254 + ".py"),
    _module("line end", "a\n.py"),
    _module("up", "../task.py"),
    _module("up inside", "a/../t.py"),
    _module("dot", "./task.py"),
    _module("two slashes", "a//t.py"),
    _module("backslash", "a\\t.py"),
    _module("folder", "task.py/"),
    _module("no .py", "task"),
    _module("notebook", "task.ipynb"),
    _module("case of .py", "task.PY"),
    _module("only .py", "a/.py"),
    BadSpec("no source", {"source": None}, "source"),
    BadSpec(
        "no source, up",
        {"source": None, "task": {"module": "/a/../task.py"}},
        "task.module",
    ),
    BadSpec("source and absolute", {"task": {"module": "/task.py"}}, "task.module", "spec.source"),
    BadSpec("short digest", {"source": {"digest": "abc", "sizeBytes": "1"}}, "source.digest"),
    BadSpec(
        "upper-case digest",
        {"source": {"digest": DIGEST.upper(), "sizeBytes": 1}},
        "source.digest",
    ),
    BadSpec("size 0", {"source": {"digest": DIGEST, "sizeBytes": 0}}, "source.sizeBytes"),
    BadSpec("size -1", {"source": {"digest": DIGEST, "sizeBytes": "-1"}}, "source.sizeBytes"),
    BadSpec("no size", {"source": {"digest": DIGEST}}, "source.sizeBytes"),
    BadSpec("no workers", {"workers": None}, "workers"),
    BadSpec("0 workers", {"workers": 0}, "workers"),
    BadSpec("-3 workers", {"workers": -3}, "workers"),
    BadSpec("many workers", {"workers": 1025}, "workers"),
    BadSpec("min workers -1", {"minWorkers": -1}, "minWorkers"),
    BadSpec("min > workers", {"minWorkers": 3}, "minWorkers"),
    BadSpec("no parameter name", {"parameters": {"": "1"}}, "parameters"),
    BadSpec("hyphen", {"parameters": {"a-b": "1"}}, "parameters"),
    BadSpec("digit first", {"parameters": {"1a": "1"}}, "parameters"),
    BadSpec("long parameter name", {"parameters": {"k" * 129: "1"}}, "parameters"),
    BadSpec(
        "long parameter", {"parameters": {"a": "x" * 4097}}, "parameters['a']", "spec.parameters.a"
    ),
    BadSpec("parameter NUL", {"parameters": {"a": "x\0"}}, "parameters['a']", "spec.parameters"),
    BadSpec("many parameters", {"parameters": {f"k{i}": "" for i in range(257)}}, "parameters"),
    BadSpec("no env name", {"env": {"": "1"}}, "env"),
    BadSpec("env =", {"env": {"A=B": "1"}}, "env"),
    BadSpec("env digit first", {"env": {"1A": "1"}}, "env"),
    BadSpec("env letter", {"env": {"GRÖSSE": "1"}}, "env"),
    BadSpec("env line end", {"env": {"A\n": "1"}}, "env"),
    BadSpec("long env name", {"env": {"K" * 129: "x"}}, "env"),
    BadSpec("long env", {"env": {"A": "x" * 4097}}, "env['A']", "spec.env.A"),
    BadSpec("env NUL", {"env": {"A": "x\0y"}}, "env['A']", "spec.env"),
    BadSpec("many env", {"env": {f"K{i}": "" for i in range(257)}}, "env"),
    BadSpec("TAAS_JOB", {"env": {"TAAS_JOB": "x"}}, "env"),
    BadSpec("TF_CONFIG", {"env": {"TF_CONFIG": "{}"}}, "env"),
    BadSpec("every steps", {"checkpoints": {"everySteps": -1}}, "checkpoints.everySteps"),
    BadSpec("every seconds", {"checkpoints": {"everySeconds": -1}}, "checkpoints.everySeconds"),
    BadSpec("keep last", {"checkpoints": {"keepLast": -1}}, "checkpoints.keepLast"),
    BadSpec("metric, space", {"checkpoints": {"bestMetric": "a b"}}, "checkpoints.bestMetric"),
    BadSpec("metric, line end", {"checkpoints": {"bestMetric": "a\n"}}, "checkpoints.bestMetric"),
    BadSpec("long metric", {"checkpoints": {"bestMetric": "m" * 129}}, "checkpoints.bestMetric"),
    BadSpec("keep every", {"checkpoints": {"keepEverySteps": -1}}, "checkpoints.keepEverySteps"),
    BadSpec("no lender", {"initFrom": {"step": "3"}}, "initFrom.job"),
    BadSpec("lender elsewhere", {"initFrom": {"job": "../b"}}, "initFrom.job"),
    BadSpec("lender's step", {"initFrom": {"job": "b", "step": "-1"}}, "initFrom.step"),
    BadSpec(
        "lender of a script",
        {"task": None, "script": {"path": "t.py"}, "initFrom": {"job": "b"}},
        "initFrom",
    ),
    BadSpec("back to 0", {"rewind": {"step": "0", "generation": 1}}, "rewind.step"),
    BadSpec("back, generation", {"rewind": {"step": "5", "generation": -1}}, "rewind.generation"),
    BadSpec(
        "command back",
        {"task": None, "command": {"words": ["x"]}, "rewind": {"step": "5", "generation": 1}},
        "rewind",
    ),
    BadSpec("max restarts", {"maxRestarts": -1}, "maxRestarts"),
    BadSpec("active deadline", {"activeDeadlineSeconds": -1}, "activeDeadlineSeconds"),
    BadSpec("start deadline", {"startDeadlineSeconds": -1}, "startDeadlineSeconds"),
    BadSpec("progress deadline", {"progressDeadlineSeconds": -1}, "progressDeadlineSeconds"),
    BadSpec("ttl", {"ttlSecondsAfterFinished": -1}, "ttlSecondsAfterFinished"),
    BadSpec("negative wait", {"elasticWaitSeconds": -1}, "elasticWaitSeconds"),
    BadSpec("negative grace", {"graceSeconds": -1}, "graceSeconds"),
    BadSpec("long grace", {"graceSeconds": 3601}, "graceSeconds"),
    BadSpec("claim name", {"storage": {"claimName": "My_Claim"}}, "storage.claimName"),
    BadSpec("long claim name", {"storage": {"claimName": "c" * 254}}, "storage.claimName"),
    _pod("image with a space", "image", image="a b"),
    _pod("long image", "image", image="i" * 513),
    _pod("pull policy", "imagePullPolicy", imagePullPolicy="always"),
    _pod("quantity", "requests['cpu']", "requests.cpu", requests={"cpu": "two"}),
    _pod("negative quantity", "limits['memory']", "limits.memory", limits={"memory": "-1Gi"}),
    _pod("empty quantity", "limits['memory']", "limits.memory", limits={"memory": ""}),
    _pod("resource name", "requests", requests={"my cpu": "1"}),
    _pod("long resource name", "limits", limits={"c" * 129: "1"}),
    _pod("many resources", "limits", limits={f"r{i}": "1" for i in range(33)}),
    _pod("negative gpus", "gpus", gpus=-1),
    _pod("many gpus", "gpus", gpus=129),
    _pod("gpu resource", "gpuResource", gpuResource="gpu"),
    _pod("gpus twice", "limits", gpus=2, limits={"nvidia.com/gpu": "1"}),
    _pod(
        "other gpus twice",
        "requests",
        gpus=1,
        gpuResource="amd.com/gpu",
        requests={"amd.com/gpu": "2"},
    ),
    _pod("node label", "nodeSelector", nodeSelector={"a b": "x"}),
    _pod("node label's value", "nodeSelector", "nodeSelector.zone", nodeSelector={"zone": "x/y"}),
    _pod("many node labels", "nodeSelector", nodeSelector={f"k{i}": "x" for i in range(33)}),
    _pod("priority class", "priorityClassName", priorityClassName="High_Priority"),
    _pod("service account", "serviceAccountName", serviceAccountName="-sa"),
]

# What makes a spec that both doors accept, at the edges of what is allowed.
GOOD_CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "in the image": {"source": None, "task": {"module": "/opt/program/task.py"}},
    "module path": {"task": {"module": "a/b-c d.py"}},
    "longest module": {"task": {"module": "m" * 252 + ".py"}},
    "dots in a name": {"task": {"module": "..x.py"}},
    "script": {
        "task": None,
        "script": {"path": "a/train.py", "arguments": ["--rate", "", "x" * 4096]},
    },
    "script in the image": {"task": None, "source": None, "script": {"path": "/opt/train.py"}},
    "distributed": {
        "task": None,
        "script": {"path": "t.py", "distribute": True, "ownCheckpoints": True},
    },
    "command": {"task": None, "command": {"words": ["python", "-m", "my.module", ""]}},
    "command in the image": {"task": None, "source": None, "command": {"words": ["train"]}},
    "most workers": {"workers": 8, "minWorkers": 8},
    "parameters": {"parameters": {"größe": "x" * 4096, "_x": "", "k" * 128: "\n"}},
    "many parameters": {"parameters": {f"k{i}": "v" for i in range(256)}},
    "env like reserved ones": {"env": {"_": "", "TF_CONFIG_2": "x", "taas_x": "y"}},
    "zeros": {
        "maxRestarts": 0,
        "activeDeadlineSeconds": 0,
        "startDeadlineSeconds": 0,
        "ttlSecondsAfterFinished": 0,
        "graceSeconds": 0,
        "minWorkers": 0,
        "elasticWaitSeconds": 0,
        "pod": {"gpus": 0, "image": "", "imagePullPolicy": "", "priorityClassName": ""},
    },
    "lender": {"initFrom": {"job": "other-1", "step": "12"}},
    "lender's newest": {"initFrom": {"job": "other-1"}},
    "back": {"rewind": {"step": "12", "generation": 3}},
    "kept for ever": {"checkpoints": {"keepEverySteps": 1000}},
    "best": {"checkpoints": {"bestMetric": "top_k/accuracy", "bestMode": "BEST_MODE_MIN"}},
    "size as a number": {"source": {"digest": DIGEST, "sizeBytes": 9007199254740991}},
    "storage": {"storage": {"claimName": "fast.team-a"}},
    "pod": {
        "pod": {
            "image": "registry.example.com:5000/team/trainer@sha256:" + DIGEST,
            "imagePullPolicy": "IfNotPresent",
            "requests": {"cpu": "1.5", "memory": "4Gi", "ephemeral-storage": "500M"},
            "limits": {"memory": "8Gi", "example.com/nic": "1", "nvidia.com/gpu": "2"},
            "gpus": 2,
            "nodeSelector": {"topology.kubernetes.io/zone": "a", "empty": ""},
            "priorityClassName": "high",
            "serviceAccountName": "trainer",
            "template": {
                "metadata": {"annotations": {"example.com/note": "x"}},
                "spec": {
                    "containers": [
                        {"name": "worker", "ports": [{"containerPort": 8080}]},
                        {"name": "side", "image": "busybox"},
                    ],
                    "tolerations": [{"operator": "Exists"}],
                },
            },
        }
    },
}
