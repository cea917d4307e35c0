# Writes a header with the text of a file: cmake -DINPUT=page.html -DNAME=kPage -DOUTPUT=page.h -P embed.cmake
file(READ ${INPUT} text)
file(WRITE ${OUTPUT} "#pragma once\n\nnamespace jevons {\ninline constexpr char ${NAME}[] = R\"embedded(${text})embedded\";\n}\n")
