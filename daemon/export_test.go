package daemon

// Reloadable are the keys that SIGHUP changes.
var Reloadable = reloadable
