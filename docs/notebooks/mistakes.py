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
# # Finding the mistakes
#
# Train a network, score it on people that it has not seen, and look at what it gets wrong: confused classes, the
# largest losses, people whose photos have contradicting predictions, and labels that are probably wrong.
#
# In Colab, install the package first. `REPOSITORY` is the address that you would give to `git clone`:
# `%pip install "mask_lightning[offline] @ git+REPOSITORY"`. Without an address, run `pip wheel --no-deps .` in your
# copy, upload the `.whl` file to Colab, and install `"./FILE.whl[offline]"` instead, with the name of that file.

# %%
from mask_lightning.metrics.evaluation import evaluate
from mask_lightning.metrics.label_issues import find_issues
from mask_lightning.metrics.mistakes import find_mistakes, top_losses
from mask_lightning.notebook import *
from mask_lightning.reports.plots import plot_confusion

ROOT = None  # your photos: a folder that holds train/; None draws portraits
MODEL = "lite0"
OPTIONS = ["augment=randaugment_zoom", "data.portraits=40"]  # any option of the commands

# %%
data = load_data(ROOT, *OPTIONS, model=MODEL)
module = build_module(data)
run = fit_one_cycle(module, data, epochs=3, lr=2e-3)
preds = get_preds(run)  # for the people who were held out

# %% [markdown]
# ## Scores, with 95 % intervals over people

# %%
evaluation = evaluate(preds)
for task, intervals in evaluation.intervals.items():
    f1 = intervals["f1"]
    print(f"{task or 'all tasks'}: macro F1 {f1.value:.3f} [{f1.low:.3f}, {f1.high:.3f}]")

# %%
scores = evaluation.scores["mask"]
plot_confusion(scores.confusion, scores.classes, "mask")

# %% [markdown]
# ## What is confused
# The most frequent pairs of classes, over all tasks.

# %%
mistakes = find_mistakes(preds)
for pair in mistakes.pairs[:5]:
    print(f"{', '.join(pair.tasks)}: {pair.target} taken for {pair.pred}, {pair.photos} photos of {pair.people} people")
print(f"{len(mistakes.divided)} people have photos with contradicting predictions")

# %% [markdown]
# ## The largest losses
# Where the network was most certain and wrong. Are the labels right?

# %%
preds.photos.iloc[top_losses(preds, 8)][["photo", "person_id"]]

# %% [markdown]
# ## Labels that are probably wrong
# Confident learning, on people whom the network has not seen. For all people, train a cross-validation and use the
# command `suspects`: see the guide about label issues.

# %%
for found in find_issues(preds, share=0.05):
    print(f"{found.task.name}: {found.doubted} of {found.labels} labels are doubted, the worst:")
    for issue in found.listed[:3]:
        print(f"  {issue.person_id} {issue.photo}: {issue.given}, rather {issue.suggested}")

# %% [markdown]
# `python -m mask_lightning.report ckpt=RUN` shows the same as an HTML page, with photos and heat maps:

# %%
print(f"python -m mask_lightning.report ckpt={run.folder.path}")
