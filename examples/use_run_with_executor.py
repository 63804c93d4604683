"""Compute in other processes: plan first, watch the progress, cancel, and get the same labels as without them."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from napari_segsuite import Image, Options, load_spec, resolve, run
from napari_segsuite.engine.run import Progress, result
from napari_segsuite.synthetic import nuclei


def tell(progress: Progress) -> None:
    """Show how far it is; anything may be done here, such as moving a bar."""
    print(f"\r{100 * progress.done // progress.total:3d} % {progress.message}", end="")


def main() -> None:
    pixels, _ = nuclei((4, 96, 128), "tyx", crowding=0.15, seed=7)
    image = Image((pixels,), axes="tyx", scale=(1.0,) * 3, units=("pixel",) * 3, translate=(0.0,) * 3)
    options = Options(model="otsu")
    plan = resolve(image, options, load_spec(options.model))  # complaints come here, before any work
    print(f"plan {plan.fingerprint}: frames along {plan.frames!r}, chunks of {plan.chunk}")

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = result(run(plan, image, executor=pool), tell)
        print(f"\n{len(found.segments['id'])} objects")

        steps = run(plan, image, executor=pool)
        for progress in steps:
            if progress.done > 0:
                break
        steps.close()  # cancel: nothing more is handed out, and the generator's files are removed
        print("the second run was cancelled on its way")

    print(f"equal without the pool: {np.array_equal(found.labels, result(run(plan, image)).labels)}")


if __name__ == "__main__":  # needed: a spawned process imports this file again
    main()
