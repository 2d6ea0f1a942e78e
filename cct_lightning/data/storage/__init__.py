"""From files to pixels: downloaded, decoded, cached in one memory-mapped file per data set.

A change goes to `tree.py` for which files are images and which are clutter (raise `listing.VERSION` with it),
`decode.py` for which kinds of images are read and how (raise `cache.VERSION` with it), `image_files.py` for reading
many of them, `cache.py` for the format of the cache, `listing.py` for the list of a streamed tree, `paths.py` for where
data sets and caches are, `download.py` for downloads, `store.py` for the way from a data set to its images.
"""
