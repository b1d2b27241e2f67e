# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # The tutorial, step by step
#
# The steps of the tutorial on the functions of this project, then what the pipeline adds. The data
# are the 5,000 digits of the sample; all 70,000 go through the same functions.
#
# `.venv/bin/python notebooks/mnist.py` runs it as a script. Jupyter opens it as a notebook where
# jupytext is installed (`pip install jupyterlab jupytext`); `jupytext --to ipynb` makes an `.ipynb`
# of it.

# %%
import tempfile

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import SGDClassifier

from mnist_pipeline.digits.data import validation
from mnist_pipeline.digits.data.split import split
from mnist_pipeline.digits.evaluation import metrics
from mnist_pipeline.digits.model import prediction, training
from mnist_pipeline.digits.params import ModelParams
from mnist_pipeline.digits.sources import sample
from mnist_pipeline.digits.sources.formats import decode

# %% [markdown]
# ## Load and split
#
# The tutorial calls `fetch_openml("mnist_784")` and `train_test_split(X, y, test_size=0.2,
# random_state=42)`. Here the file is decoded, and `split` gives the same rows in the same order.

# %%
table = decode(sample.read())
train, test = split(table, test_size=0.2, random_state=42)
print(f"{len(train):,} training and {len(test):,} test digits")

# %% [markdown]
# ## Fit and predict
#
# The tutorial's `SGDClassifier` on raw pixels, here for ten epochs: without `max_iter` and `tol` it
# takes up to a thousand, which changes little.

# %%
tutorial = SGDClassifier(max_iter=10, tol=None, random_state=42)
tutorial.fit(train.pixels.astype(np.float64), train.labels)
predicted = tutorial.predict(test.pixels.astype(np.float64))
print(f"accuracy of the tutorial's model: {(predicted == test.labels).mean():.2%}")

# %% [markdown]
# ## Look at the digits


# %%
def show(places: np.ndarray, title: str) -> None:
    """Draw some test digits with what is predicted for them."""
    figure, axes = plt.subplots(1, len(places), figsize=(len(places), 1.6))
    figure.suptitle(title)
    for one, place in zip(axes, places, strict=True):
        one.imshow(test.pixels[place].reshape(28, 28), cmap="gray_r")
        one.set_title(f"{test.labels[place]}: {predicted[place]}", fontsize=9)
        one.set_axis_off()


show(np.arange(8), "label: prediction")
show(np.flatnonzero(predicted != test.labels)[:8], "the first mistakes")

# %% [markdown]
# ## The model of the pipeline
#
# The preset `fast` describes each digit by gradient orientations and fits the same classifier. A
# tenth of the training rows is held out of the fit: it ends the fit and calibrates the
# probabilities.

# %%
parts = validation.hold_out(train, size=0.1, random_state=42)
model = training.fit(ModelParams(), parts, print)
evaluation = metrics.evaluate(prediction.predict(model, test))
low, high = evaluation.accuracy_interval
print(f"accuracy of the preset fast: {evaluation.accuracy:.2%} ({low:.2%} to {high:.2%})")

# %% [markdown]
# ## What the pipeline adds
#
# The same as assets: every result is a file under the digest of its bytes, every materialization is
# recorded, and nothing is computed twice from the same inputs. Here in a temporary folder.

# %%
from mnist_pipeline.config.settings import Settings
from mnist_pipeline.definitions import build

folder = tempfile.TemporaryDirectory()
settings = Settings.load(
    MNIST_SOURCE="sample", MNIST_DATA_DIR=folder.name, DAGSTER_HOME=f"{folder.name}/home"
)
with build(settings).session() as session:
    first = session.run()
    again = session.refresh()
print("computed:", ", ".join(first.computed))
print("computed again:", ", ".join(again.computed) or "nothing")
print("the champion:", first.metadata["champion_model"]["decision"])

# %% [markdown]
# Of the project's own runs, `mnist-pipeline ui` shows the assets and `mnist-pipeline report --open`
# the report.

# %%
folder.cleanup()
