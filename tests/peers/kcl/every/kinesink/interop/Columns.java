package kinesink.interop;

import java.util.Collection;
import java.util.HexFormat;
import java.util.List;
import java.util.TreeSet;
import java.util.stream.Collectors;

/** What a library read of a lease, as a line of columns between tabs; a value that it has not got is {@code -}. */
final class Columns {
    private Columns() {}

    static String line(String when, Object... values) {
        return when + "\t" + List.of(values).stream().map(Columns::text).collect(Collectors.joining("\t"));
    }

    /** {@link List#of} takes no null. */
    static Object or(Object value) {
        return value == null ? "-" : value;
    }

    private static String text(Object value) {
        if (value instanceof byte[] bytes) {
            return HexFormat.of().formatHex(bytes);
        }
        if (value instanceof Collection<?> set) {
            return set.isEmpty() ? "-" : String.join(",", new TreeSet<>(set.stream().map(Object::toString).toList()));
        }
        return value.toString();
    }
}
