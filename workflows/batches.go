package workflows

// batchWindow is how many partitions of a stage are in work when their questions travel in batches, which take hours: as many
// as make one wait of all, up to half a million questions at 4,096 rows a partition. A capped budget is shared among them.
const batchWindow = 128
