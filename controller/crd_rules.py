"""What the CustomResourceDefinition says beyond the protos: defaults, bounds, rules. Pure.

Fields are named Message.jsonName. Rules are CEL (message: rule); they agree with what
controller.parse_spec refuses, so that both doors refuse the same jobs. Two things only the
controller checks: the size of parameters and env together, and the inside of a pod template.
"""

from __future__ import annotations

from typing import Any

from controller import parse_pod, parse_program, parse_spec
from controller.model import DEFAULT_CLAIM, DEFAULT_GPU, CheckpointPolicy, Spec, Task
from controller.parse_names import DNS_LABEL, MOST_JOB_CHARS
from controller.parse_values import DNS_SUBDOMAIN, LABEL_TEXT, MOST_DNS_CHARS, MOST_LABEL_CHARS
from controller.resource import GROUP, KIND, PLURAL, VERSION

_DEFAULTS = Spec(Task(module=""))
_MOST_WORKERS = 1024
_IMMUTABLE = {"cannot be changed; create another job": "self == oldSelf"}
# A text that names an object of Kubernetes; "" is none.
_OBJECT_NAME = {"maxLength": MOST_DNS_CHARS, "pattern": f"^({DNS_SUBDOMAIN.pattern})?$"}
_TEXTS = {
    "maxProperties": parse_spec.MOST_ENTRIES,
    "additionalProperties": {"maxLength": parse_spec.MOST_VALUE_CHARS},
    # An empty map and none are the same, also for what may not change.
    "default": {},
}
# str.isidentifier in the words of a regular expression.
_IDENTIFIER = r"[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Mn}\p{Mc}\p{Nd}\p{Pc}]*"


def _names(pattern: str, most: int, what: str) -> dict[str, str]:
    """Return the rule that the keys of a map are such names."""
    rule = f"self.all(name, size(name) <= {most} && name.matches(r'^{pattern}$'))"
    return {f"{what} of at most {most} characters": rule}


def _values(rule: str, what: str) -> dict[str, str]:
    return {what: f"self.all(name, {rule})"}


_NO_NUL = _values(r"!self[name].contains('\x00')", "values must have no NUL character")

_QUANTITIES: dict[str, Any] = {
    "maxProperties": parse_pod.MOST_RESOURCES,
    "additionalProperties": {
        "maxLength": parse_pod.MOST_QUANTITY_CHARS,
        "pattern": f"^{parse_pod.QUANTITY}$",
    },
    "x-kubernetes-validations": _names(
        parse_pod.RESOURCE, parse_pod.MOST_RESOURCE_CHARS, "names must be those of resources,"
    ),
}

_WORDS: dict[str, Any] = {
    "maxItems": parse_program.MOST_WORDS,
    "items": {"maxLength": parse_program.MOST_WORD_CHARS},
    "x-kubernetes-list-type": "atomic",
    "x-kubernetes-validations": {
        "words must have no NUL character": r"self.all(word, !word.contains('\x00'))"
    },
}


def _file(example: str) -> dict[str, Any]:
    return {
        "minLength": 1,
        "maxLength": parse_program.MOST_PATH_CHARS + 1,
        "x-kubernetes-validations": {
            "must be the path of a .py file with forward slashes and without '.' and '..', "
            f'for example "{example}"': (
                r"self.matches(r'^/?([^/\\[:cntrl:]]+/)*[^/\\[:cntrl:]]+[.]py$') && "
                r"!self.matches(r'(^|/)[.]{1,2}/')"
            ),
        },
    }


def _step(*, least: int) -> dict[str, Any]:
    digits = "[1-9][0-9]*" if least else "[0-9]+"
    return {
        "maxLength": 19,
        "x-kubernetes-validations": {
            f"must be a step, {least} or more": (
                f"type(self) == int ? self >= {least} : self.matches('^{digits}$')"
            )
        },
    }


FIELDS: dict[str, dict[str, Any]] = {
    "TrainingJobSpec.task": {"x-kubernetes-validations": _IMMUTABLE},
    "TrainingJobSpec.script": {"x-kubernetes-validations": _IMMUTABLE},
    "TrainingJobSpec.command": {"x-kubernetes-validations": _IMMUTABLE},
    "TrainingJobSpec.source": {"x-kubernetes-validations": _IMMUTABLE},
    "TrainingJobSpec.workers": {"minimum": 1, "maximum": _MOST_WORKERS},
    "TrainingJobSpec.minWorkers": {"minimum": 0},
    "TrainingJobSpec.elasticWaitSeconds": {"minimum": 0, "default": _DEFAULTS.elastic_wait_s},
    "TrainingJobSpec.parameters": {
        **_TEXTS,
        "x-kubernetes-validations": {
            **_IMMUTABLE,
            **_names(_IDENTIFIER, parse_spec.MOST_KEY_CHARS, "names must be Python identifiers"),
            **_NO_NUL,
        },
    },
    "TrainingJobSpec.env": {
        **_TEXTS,
        "x-kubernetes-validations": {
            **_IMMUTABLE,
            **_names(
                parse_spec.ENV_NAME,
                parse_spec.MOST_KEY_CHARS,
                "names must have letters, digits and '_' only, begin with no digit, and be",
            ),
            **_NO_NUL,
            "TF_CONFIG and names that start with TAAS_ are set by the service": (
                "self.all(name, name != 'TF_CONFIG' && !name.startsWith('TAAS_'))"
            ),
        },
    },
    "TrainingJobSpec.maxRestarts": {"minimum": 0, "default": _DEFAULTS.max_restarts},
    "TrainingJobSpec.activeDeadlineSeconds": {"minimum": 0},
    "TrainingJobSpec.startDeadlineSeconds": {
        "minimum": 0,
        "default": _DEFAULTS.start_deadline_s,
    },
    # Without a default: commands have none.
    "TrainingJobSpec.progressDeadlineSeconds": {"minimum": 0},
    "TrainingJobSpec.ttlSecondsAfterFinished": {"minimum": 0},
    "TrainingJobSpec.evaluator": {"default": False, "x-kubernetes-validations": _IMMUTABLE},
    "TrainingJobSpec.suspend": {"default": False},
    "TrainingJobSpec.cancel": {
        "default": False,
        "x-kubernetes-validations": {"cannot be taken back": "self || !oldSelf"},
    },
    "TrainingJobSpec.graceSeconds": {
        "minimum": 0,
        "maximum": parse_spec.MOST_GRACE_S,
        "default": _DEFAULTS.grace_s,
    },
    "TrainingJobSpec.pod": {"default": {}},
    "TrainingJobSpec.storage": {"default": {}, "x-kubernetes-validations": _IMMUTABLE},
    "TaskProgram.module": _file("task.py"),
    "ScriptProgram.path": _file("train.py"),
    "ScriptProgram.arguments": _WORDS,
    "CommandProgram.words": {
        **_WORDS,
        "minItems": 1,
        "x-kubernetes-validations": {
            "must name a program": "size(self) == 0 || self[0] != ''",
            **_WORDS["x-kubernetes-validations"],
        },
    },
    "Source.digest": {"maxLength": 64, "pattern": "^[0-9a-f]{64}$"},
    "Source.sizeBytes": {
        "maxLength": 19,
        "x-kubernetes-validations": {
            "must be the size of the archive in bytes": (
                "type(self) == int ? self >= 1 : self.matches('^[1-9][0-9]*$')"
            )
        },
    },
    "PodOptions.image": {
        "maxLength": parse_pod.MOST_IMAGE_CHARS,
        "pattern": f"^{parse_pod.IMAGE}$",
    },
    "PodOptions.imagePullPolicy": {"enum": ["", *parse_pod.PULL_POLICIES]},
    "PodOptions.requests": _QUANTITIES,
    "PodOptions.limits": _QUANTITIES,
    "PodOptions.gpus": {"minimum": 0, "maximum": parse_pod.MOST_GPUS},
    "PodOptions.gpuResource": {
        "maxLength": parse_pod.MOST_RESOURCE_CHARS,
        "pattern": f"^({parse_pod.EXTENDED_RESOURCE})?$",
        "default": DEFAULT_GPU,
    },
    "PodOptions.nodeSelector": {
        "maxProperties": parse_pod.MOST_NODE_LABELS,
        "additionalProperties": {
            "maxLength": MOST_LABEL_CHARS,
            "pattern": f"^({LABEL_TEXT.pattern})?$",
        },
        "x-kubernetes-validations": _names(
            f"({DNS_SUBDOMAIN.pattern}/)?{LABEL_TEXT.pattern}",
            MOST_DNS_CHARS + 1 + MOST_LABEL_CHARS,
            "names must be keys of labels,",
        ),
    },
    "PodOptions.priorityClassName": _OBJECT_NAME,
    "PodOptions.serviceAccountName": _OBJECT_NAME,
    "StorageOptions.claimName": {**_OBJECT_NAME, "default": DEFAULT_CLAIM},
    "CheckpointPolicy.everySteps": {"minimum": 0},
    "CheckpointPolicy.everySeconds": {"minimum": 0},
    "CheckpointPolicy.keepLast": {"minimum": 0, "default": CheckpointPolicy().keep_last},
    "CheckpointPolicy.keepEverySteps": {"minimum": 0},
    "TrainingJobSpec.initFrom": {"x-kubernetes-validations": _IMMUTABLE},
    "InitFrom.job": {
        "maxLength": MOST_JOB_CHARS,
        "pattern": f"^{DNS_LABEL.pattern}$",
    },
    "InitFrom.step": _step(least=0),
    "Rewind.step": _step(least=1),
    "Rewind.generation": {"minimum": 0},
    "CheckpointPolicy.bestMetric": {
        "maxLength": parse_spec.MOST_KEY_CHARS,
        "pattern": r"^[^\s[:cntrl:]]*$",
    },
    "TrainingJobStatus.conditions": {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    },
    # Proto JSON leaves zeros out; columns and the scale subresource want to see them.
    "TrainingJobStatus.readyWorkers": {"default": 0},
    "TrainingJobStatus.restarts": {"default": 0},
}

REQUIRED: dict[str, tuple[str, ...]] = {
    "TrainingJobSpec": ("workers",),
    "TaskProgram": ("module",),
    "ScriptProgram": ("path",),
    "CommandProgram": ("words",),
    "Source": ("digest", "sizeBytes"),
    "InitFrom": ("job",),
    "Rewind": ("step", "generation"),
    "Condition": ("type", "status"),
}


def _agrees_with_gpus(field: str) -> str:
    return (
        f"!has(self.gpus) || self.gpus == 0 || !has(self.{field}) || "
        f"!(self.gpuResource in self.{field}) || "
        f"self.{field}[self.gpuResource] == string(self.gpus)"
    )


# Rules between the fields of a message: (field to blame, message, rule).
RULES: dict[str, list[tuple[str, str, str]]] = {
    "TrainingJobSpec": [
        (
            "minWorkers",
            "must not be more than workers",
            "!has(self.minWorkers) || self.minWorkers <= self.workers",
        ),
        (
            "source",
            "is missing; without one, task.module must be an absolute path in the image, and "
            "with one it must not be",
            "!has(self.task) || has(self.source) != self.task.module.startsWith('/')",
        ),
        (
            "source",
            "is missing; without one, script.path must be an absolute path in the image, and "
            "with one it must not be",
            "!has(self.script) || has(self.source) != self.script.path.startsWith('/')",
        ),
        (
            "parameters",
            "are for tasks; give a script arguments and a command words",
            "has(self.task) || size(self.parameters) == 0",
        ),
        (
            "initFrom",
            "is for tasks; a script loads the weights that it begins with itself",
            "!has(self.initFrom) || has(self.task)",
        ),
        (
            "initFrom",
            "cannot be added or removed; create another job",
            "has(self.initFrom) == has(oldSelf.initFrom)",
        ),
        (
            "rewind",
            "is not for commands, which see to their own files",
            "!has(self.rewind) || !has(self.command)",
        ),
        (
            "evaluator",
            "is for tasks, which say what they are evaluated on; leave it out",
            "has(self.task) || !has(self.evaluator) || !self.evaluator",
        ),
        (
            "source",
            "cannot be added or removed; create another job",
            "has(self.source) == has(oldSelf.source)",
        ),
        (
            "pod",
            "can be changed only while the job is suspended",
            "self.pod == oldSelf.pod || oldSelf.suspend",
        ),
    ],
    "PodOptions": [
        (field, "must agree with gpus; set gpus alone", _agrees_with_gpus(field))
        for field in ("requests", "limits")
    ],
}

_FINISHED = "['PHASE_SUCCEEDED', 'PHASE_FAILED', 'PHASE_CANCELLED']"
OF_THE_RESOURCE: dict[str, str] = {
    "metadata.name: pods are named after the job, so use at most "
    f"{MOST_JOB_CHARS} of a-z, 0-9 and '-', beginning and ending with a letter or digit": (
        f"size(self.metadata.name) <= {MOST_JOB_CHARS} && "
        f"self.metadata.name.matches('^{DNS_LABEL.pattern}$')"
    ),
    "a finished job cannot be scaled, suspended, resumed or cancelled": (
        "!has(oldSelf.status) || !has(oldSelf.status.phase) || "
        f"!(oldSelf.status.phase in {_FINISHED}) || "
        "(self.spec.workers == oldSelf.spec.workers && "
        "self.spec.suspend == oldSelf.spec.suspend && self.spec.cancel == oldSelf.spec.cancel)"
    ),
}

# The newest entries of the job's event log, which the protos keep apart from the status.
EVENTS: dict[str, Any] = {
    "type": "array",
    "description": "The newest entries of the event log, oldest first; kubectl describe has the "
    "story for people.",
    "x-kubernetes-list-type": "atomic",
    "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}


def _column(name: str, kind: str, path: str, description: str, priority: int = 0) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    # Shown by `-o wide` only. A 0 would be dropped by the API server, and differ for ever.
    return column | ({"priority": priority} if priority else {})


# 64-bit numbers are text in proto JSON; the columns of type integer cut fractions off.
COLUMNS = [
    # The reason of this condition is the phase in Kubernetes' own spelling, in every phase.
    _column(
        "Phase",
        "string",
        '.status.conditions[?(@.type=="Running")].reason',
        "Where the job stands.",
    ),
    _column("Ready", "integer", ".status.readyWorkers", "Workers that are ready or running."),
    _column("Workers", "integer", ".spec.workers", "Workers that are wanted."),
    _column("Step", "string", ".status.progress.step", "Steps completed."),
    _column("Total", "string", ".status.progress.totalSteps", "Steps the training takes."),
    _column("Loss", "number", ".status.progress.loss", "Training loss."),
    _column(
        "Examples/s", "integer", ".status.progress.examplesPerSecond", "Examples of all workers."
    ),
    _column("Left", "integer", ".status.progress.secondsLeft", "Seconds left at this rate."),
    _column("Restarts", "integer", ".status.restarts", "Generations that ended early."),
    _column("Age", "date", ".metadata.creationTimestamp", "Time since the job was created."),
    _column("Message", "string", ".status.message", "What is happening.", priority=1),
]


def definition(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the CustomResourceDefinition with that schema."""
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.workers",
                "statusReplicasPath": ".status.readyWorkers",
            },
        },
        "additionalPrinterColumns": COLUMNS,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": "trainingjob",
                "shortNames": ["tj"],
                "categories": ["all"],
            },
            "versions": [version],
        },
    }
