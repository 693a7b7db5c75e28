"""TensorFlow checkpoints: ``X.data-00000-of-00001``, whose tensors are found by the ``X.index`` beside it.

Also the ``variables/variables.*`` of a SavedModel. The index is a table as LevelDB has them, without compression, of
one protocol buffer for each tensor: BundleEntryProto, by version 1 of tensor_bundle.proto. Followed are any number of
shards, of little-endian and of big-endian machines, and slices of partitioned variables, each as a tensor of its own
by the name of the whole. Names are the keys of the table, as `tf.train.load_checkpoint` lists them.

Not followed, and kept exactly as a part of the skeleton: texts, resources and variants. The first format of
TensorFlow, a table of values without data files, is not followed at all. A data file by itself is exact: TensorFlow
keeps the CRC-32C of each tensor in the index, which is another file, and refuses those that differ. Of a folder that
holds both, `renew` gives an index the checksums of what comes back.
"""
