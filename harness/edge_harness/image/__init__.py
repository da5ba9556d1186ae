"""The device's root filesystem and the wheels and packages that lie over it.

An *image* is a Debian tree for one architecture and suite. A *layer* is a set of wheels for the
device, or a Debian package with what it needs beyond the image; it lies beside the image, so that
another version of a runtime never rebuilds the tree and two versions can be used in one run. Both
are built once, under a lock, into the user's cache and named by a hash of what they are made from;
``lock.json`` in each lists every part by name, version and SHA-256.
"""

from edge_harness.image.build import (
    Image,
    Layer,
    agent_dir,
    ensure_image,
    ensure_layer,
    layer_key,
    layers_dir,
)
from edge_harness.image.environment import Environment, host_environment
from edge_harness.image.runtime_layers import (
    cached_parent,
    ensure_runtime_layers,
    warm_parent,
)
from edge_harness.image.store import gc, list_images, remove

__all__ = [
    "Environment",
    "Image",
    "Layer",
    "agent_dir",
    "cached_parent",
    "ensure_image",
    "ensure_layer",
    "ensure_runtime_layers",
    "gc",
    "host_environment",
    "layer_key",
    "layers_dir",
    "list_images",
    "remove",
    "warm_parent",
]
