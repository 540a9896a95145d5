"""The recipes, a folder of their own in the checkout, are ``snn_delay_plugins.recipes`` where the package is installed. All
else is in ``setup.cfg``."""

from setuptools import find_packages, setup

RECIPES = "snn_delay_plugins.recipes"

setup(
    packages=find_packages(include=["snn_delay_plugins*"])
    + [RECIPES + package.removeprefix("recipes") for package in find_packages(include=["recipes*"])],
    package_dir={RECIPES: "recipes"},
)
