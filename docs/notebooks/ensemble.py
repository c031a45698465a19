# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # An ensemble
#
# Train three networks on the same people with different seeds, and let them vote on people that none of them has seen.
#
# In Colab, install the package first. `REPOSITORY` is the address that you would give to `git clone`:
# `%pip install "mask_lightning[offline] @ git+REPOSITORY"`. Without an address, run `pip wheel --no-deps .` in your
# copy, upload the `.whl` file to Colab, and install `"./FILE.whl[offline]"` instead, with the name of that file.

# %%
from mask_lightning.ensemble.voting import vote_predictions
from mask_lightning.metrics.bootstrap import compare
from mask_lightning.metrics.evaluation import evaluate
from mask_lightning.notebook import *

ROOT = None  # your photos: a folder that holds train/; None draws portraits
MODEL = "lite0"
OPTIONS = ["augment=randaugment_zoom", "data.portraits=40"]  # any option of the commands

# %% [markdown]
# ## Members
# `data.split_seed=0` keeps the split equal while the seed of weights and order changes.

# %%
parts = []
for seed in range(3):
    data = load_data(ROOT, *OPTIONS, f"seed={seed}", "data.split_seed=0", model=MODEL)
    run = fit_one_cycle(build_module(data), data, epochs=2, lr=2e-3)
    parts.append(get_preds(run))

# %% [markdown]
# ## Vote
# A hard vote counts predictions, a soft vote averages probabilities.

# %%
votes = {kind: vote_predictions(parts, kind=kind).predictions for kind in ("hard", "soft")}
candidates = {**{f"member {i}": part for i, part in enumerate(parts)}, **votes}
results = {name: evaluate(preds) for name, preds in candidates.items()}
for name, result in results.items():
    f1 = result.intervals[result.headline]["f1"]
    print(f"{name}: macro F1 {f1.value:.3f} [{f1.low:.3f}, {f1.high:.3f}]")

# %% [markdown]
# ## Is the difference real?
# The interval of the difference, over the same people. If it contains 0, the vote is not better than the member.

# %%
differences = compare(votes["soft"], parts[0])
for task, found in differences.items():
    print(task or "all tasks", found["f1"])

# %% [markdown]
# The command line trains members on re-balanced parts of the data: `python -m mask_lightning.train -m ensemble=age`,
# then `python -m mask_lightning.vote runs=SWEEP`.
