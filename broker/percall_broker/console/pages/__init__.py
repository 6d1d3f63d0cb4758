"""The pages, a module for each subject. Each module's `router` is given the broker; a GET changes nothing."""
