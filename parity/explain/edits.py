"""What goes wrong with networks on their way, each as an edit of the trained graph: the catalogue.

An edit has a key, the layer where it is made (or none), a phrase, and a patch. Edits of one phrase at several layers
can be made at all of them at once (`everywhere`): a converter's default is wrong in every layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from parity.explain import gates, matrices, steps, stored, windows
from parity.explain.patches import Edit
from parity.explain.surgery import RECURRENT, Network, Patch


def everywhere(edits: Sequence[Edit]) -> list[Edit]:
    """Edits of one key and phrase made at all of their layers at once."""
    groups: dict[tuple[str, str], list[Edit]] = {}
    for e in edits:
        groups.setdefault((e.key, e.phrase), []).append(e)
    found = []
    for (key, phrase), named in groups.items():
        if not all(e.where for e in named):
            continue
        group = list(named)
        for less in stored.lesser(phrase):
            had = {e.where for e in group}
            group += [e for e in groups.get((key, less), ()) if e.where not in had]
        if len(group) < 2:
            continue
        patch = Patch()
        for e in group:
            if not patch.clashes(e.patch):
                patch = patch | e.patch
        parameters = max(e.parameters for e in group)
        found.append(Edit(key, f"{phrase}, in all {len(group)} layers that have it", patch, parameters=parameters))
    return found


def catalogue(network: Network, shapes: Mapping[str, tuple[int, ...]]) -> list[Edit]:
    """Every edit of the graph itself. `shapes` of its tensors (with the batch) for a clip."""
    found: list[Edit] = []
    for i, node in enumerate(network.nodes):
        where = network.name(i)
        for makers in (windows.padding, windows.pools, steps.activations, steps.sums, steps.sequences, steps.softmax):
            found += [Edit(k, p, patch, where) for k, p, patch in makers(network, i, shapes)]
        if i in network.layers:
            kind = gates.recurrent if node.op_type in RECURRENT else matrices.turned_or_lost
            found += [Edit(k, p, patch, where) for k, p, patch in kind(network, i, shapes)]
            found += [Edit(k, p, patch, where) for k, p, patch in stored.held(network, i)]
    return found + list(_exchanged(network))


def _exchanged(network: Network) -> Iterator[Edit]:
    """Weights of two layers of one shape."""
    for i, j in itertools.combinations(network.layers, 2):
        a, b = network.nodes[i], network.nodes[j]
        last = 4 if a.op_type in RECURRENT else 3
        ours, theirs = ([n for n in x.input[1:last] if n in network.weights] for x in (a, b))
        alike = [network.weights[n].shape for n in ours] == [network.weights[n].shape for n in theirs]
        if a.op_type == b.op_type and alike and not set(ours) & set(theirs):
            w = network.weights
            swapped = {**{m: w[n] for m, n in zip(ours, theirs, strict=True)},
                       **{n: w[m] for m, n in zip(ours, theirs, strict=True)}}  # fmt: skip
            words = f"{network.name(i)} and {network.name(j)}: weights exchanged"
            yield Edit("network.weights-exchanged", words, Patch(weights=swapped))
