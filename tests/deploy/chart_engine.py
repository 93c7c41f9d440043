"""Helm's engine and the schemas of Kubernetes in an environment of their own: this program runs there.

It reads a list of values from standard input.  It writes the result of Helm's linter, and for each values the
error, or the manifests with the kinds that have no schema.
"""

import json
import sys

import helm_python
import kubernetes_validate
import yaml

_KUBERNETES = "1.31"


def render(chart, values):
    """Return the manifests of the chart with these values, or why there are none."""
    try:
        texts = chart.render(values=values, name="rel", namespace="consoles")
    except helm_python.HelmError as error:
        return {"error": str(error)}
    manifests, unchecked = [], []
    for name, text in texts.items():
        if name.endswith(".txt"):
            continue
        for manifest in filter(None, yaml.safe_load_all(text)):
            manifests.append(manifest)
            try:
                kubernetes_validate.validate(manifest, _KUBERNETES, strict=True)
            except kubernetes_validate.SchemaNotFoundError:
                unchecked.append(manifest["kind"])
            except kubernetes_validate.ValidationError as error:
                return {"error": f"{name}: {error.message} at {list(error.path)}"}
    return {"manifests": manifests, "unchecked": unchecked}


def main():
    """Check and render the chart in the folder that is the argument."""
    path = sys.argv[1]
    chart = helm_python.Chart.load(path)
    lint = helm_python.lint(path, strict=True, kube_version=f"{_KUBERNETES}.0")
    json.dump([lint, *(render(chart, values) for values in json.load(sys.stdin))], sys.stdout)


if __name__ == "__main__":
    main()
