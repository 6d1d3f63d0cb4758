"""The console: pages of the broker's at /console, for administrators and for whoever is asked to approve something.
Rendered here; no build step.

`door` is the way in, with what every request must fulfil; a module of `pages` for each subject; `rendering` and `plots`
turn rows into HTML. What can be done is in `pipeline.console` and `pipeline.administration`; nothing is decided here.
"""
