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
# # First model
#
# Train a network on faces, look at what it learned, and predict new photos. Without `ROOT` it uses drawn portraits: the
# scores then show that everything works, and say nothing about real faces.
#
# In Colab, install the package first. `REPOSITORY` is the address that you would give to `git clone`:
# `%pip install "mask_lightning[offline] @ git+REPOSITORY"`. Without an address, run `pip wheel --no-deps .` in your
# copy, upload the `.whl` file to Colab, and install `"./FILE.whl[offline]"` instead, with the name of that file.

# %%
from mask_lightning.notebook import *

ROOT = None  # your photos: a folder that holds train/
MODEL = "lite0"
OPTIONS = ["augment=randaugment_zoom", "data.portraits=40"]  # any option of the commands

# %% [markdown]
# ## Photos
# People are split, not photos: nobody is on both sides. The network sees augmented photos, with their labels below.

# %%
data = load_data(ROOT, *OPTIONS, model=MODEL)
show_batch(data)

# %% [markdown]
# ## Learning rate
# The LR range test raises the learning rate until the loss diverges. The module is unchanged afterwards.

# %%
module = build_module(data)
found = lr_find(module, data, unfreeze="heads")
plot_lr_range(found)

# %% [markdown]
# ## Training
# As in fastai: one epoch for the heads alone, then all layers with discriminative learning rates.

# %%
run = fine_tune(module, data, epochs=2, lr=2e-3)
plot_curves(run)

# %% [markdown]
# ## Result
# Truth above, prediction below; wrong predictions are red.

# %%
show_results(run)

# %%
preds = get_preds(run)
print(run.folder.path, len(preds), "photos of held-out people")

# %% [markdown]
# The run folder works with all commands, for example `python -m mask_lightning.report ckpt=RUN`.
