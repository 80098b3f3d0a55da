"""Golden vectors: inputs, options and results by which anybody's implementation can be judged.

A vector is NAME.npz (float64 arrays) and NAME.json, its manifest (contract, component, equations, options, seed, shapes,
tolerance, checksums).
``python -m hope_ref golden list`` shows those that are shipped, ``golden make`` writes more, and

    python -m hope_ref golden check --component delta_rule --implementation my_package.memories:delta_rule

runs a function on them. It is called with the inputs by name as float64 NumPy arrays and with the options as keywords,
and returns a dict of arrays by result name; both lists of names are in the manifest. For example:

    import numpy as np

    def delta_rule(q, k, v, eta, memory):
        outputs = np.zeros_like(v)
        for t in range(len(k)):
            error = memory @ k[t] - v[t]
            memory = memory - eta[t] * np.outer(error, k[t])
            outputs[t] = memory @ q[t]
        return {"outputs": outputs, "final_memory": memory}

Without ``:function`` each component is judged by the module's function of its name. An array agrees if
max |got - want| <= tolerance · max(1, max |want|). Where it does not, our reference is run with other option values
and with known mistakes, and those that give exactly the arrays returned are named. Extra results are ignored.
What the function prints goes to stderr; what it raises, an exit too, is its answer to that vector.

`load` trusts no file: whatever is wrong with a vector is one ValueError, which names the file.

The manifest's ``contract`` is the version of all this, an integer, `CONTRACT`: of the components' names, inputs, options and
results, and of what each option means. A change by which a function that agreed may disagree raises it; more components,
options or vectors do not. A vector of another contract is refused.
"""

from hope_ref.golden.check import Finding, Report, check, implementation, likely_cause
from hope_ref.golden.commands import add_commands, main
from hope_ref.golden.files import CONTRACT, Vector, load, paths, save
from hope_ref.golden.make import FOLDER, make, make_shipped, shipped
from hope_ref.golden.registry import component, components

__all__ = [
    "CONTRACT",
    "FOLDER",
    "Finding",
    "Report",
    "Vector",
    "add_commands",
    "check",
    "component",
    "components",
    "implementation",
    "likely_cause",
    "load",
    "main",
    "make",
    "make_shipped",
    "paths",
    "save",
    "shipped",
]
