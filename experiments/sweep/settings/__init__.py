"""The settings of a study: fields, grids, study files and parts of a job array."""
