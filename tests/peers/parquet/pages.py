"""Sizes of the pages of a column chunk, read from their headers: Thrift's compact protocol, of which a header needs little."""

STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(13)


class Reader:
    def __init__(self, data, at):
        self.data, self.at = data, at

    def byte(self):
        self.at += 1
        return self.data[self.at - 1]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    def number(self):
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def fields(self):
        """Number and kind of each field of a struct; who takes them reads or skips their values."""
        last = 0
        while (head := self.byte()) != STOP:
            last = last + (head >> 4) if head >> 4 else self.number()
            yield last, head & 0x0F

    def skip(self, kind):
        if kind in (TRUE, FALSE):
            return
        if kind == BYTE:
            self.at += 1
        elif kind in (I16, I32, I64):
            self.varint()
        elif kind == DOUBLE:
            self.at += 8
        elif kind == BINARY:
            # Its length has to be read before it is added.
            length = self.varint()
            self.at += length
        elif kind == STRUCT:
            for _, inner in self.fields():
                self.skip(inner)
        else:
            raise ValueError(f"a page's header has no field of kind {kind}")


def data_page_bytes(data, start, end):
    """Uncompressed sizes of the data pages between two places of a file."""
    sizes, at = [], start
    while at < end:
        reader, header = Reader(data, at), {}
        for field, kind in reader.fields():
            if kind == I32:
                header[field] = reader.number()
            else:
                reader.skip(kind)
        page_type, uncompressed, compressed = header[1], header[2], header[3]
        if page_type in (0, 3):
            sizes.append(uncompressed)
        at = reader.at + compressed
    assert at == end, (at, end)
    return sizes
